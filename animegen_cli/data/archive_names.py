"""The encoding of names in an archive that does not state it, guessed from all of them together.

A zip says by a flag that a name is UTF-8, and a tar made by GNU or POSIX rules holds UTF-8. Without it the bytes are those of
the machine that packed it: GBK on a Chinese Windows, Shift JIS on a Japanese one, EUC-KR, Big5, CP866, or CP437 as the zip
standard says. Nearly every sequence of bytes can be read in several of these, so it is not enough that names can be decoded:
that encoding is taken in which most letters are common ones (for the East Asian sets, the level of frequent characters of each
standard) and stand in words.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT = "cp437"
"""What a zip holds where nothing says otherwise (PKWARE's APPNOTE.TXT, appendix D)."""
SPOKEN = {
    "gbk": "GBK (Chinese)",
    "cp932": "Shift JIS (Japanese)",
    "cp949": "EUC-KR (Korean)",
    "cp950": "Big5 (Chinese)",
    "cp866": "CP866 (Cyrillic)",
    DEFAULT: "CP437 (Western)",
    "utf-8": "UTF-8",
}
"""The encodings that are tried, and what people call them."""
_MOST = 2000  # names that decide: more change nothing
_PLAUSIBLE = 0.6  # share of common letters below which a name is taken for Western
_FREQUENT_CHINESE = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到说时要出会可也你对生能而子得着下自之年过发后作里用道行所家种事成方多经去"
    "法学如同现没动面起看定天分还进好小部些主样理心她本前开但只想实日者意它与长把机十民第公此工使情明性知全三又关点正业外将"
    "两高间由问最重手向头文体政美相见被利二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立"
    "比员水名真论处走各入几口认条平气题活更别打女变四神总何电数安少报才结反受目太量再感建做接必场件计管期市直山金指区至队形"
    "社空决治展马科司五基眼书非听白界光放强即像难权思王象完设式色路记南品住类求程北边死张该取格望觉传师观清今切院让识候带导"
    "红蓝绿黄黑紫粉灰棕橙银发脸男孩图片漫物角少集画夹副截照建青赤桃茶短双左右笑哭龙猫狐星花雪樱夏秋冬春"
)
_FREQUENT_KOREAN = frozenset(
    "이다는에가을를은의하고지기한사로시도리자어인아나해대있그정수일부전상보제주들라여장동년원으서게것스생성구관개국경문화공조신간과"
    "만면선학중유치비연위소실방발용진안당세력남북산물명러트영오프레드마바차카타파져머분홍랑빨강검은색노초록늘흰눈얼굴림형녀애니봄름겨터캐릭"
)
_LETTERS = re.compile(r"[^\x00-\x7f]+")


def guess(names: Iterable[bytes]) -> str:
    """The encoding of names that hold bytes beyond ASCII, one of `SPOKEN`.

    Args:
        names: the raw names of one archive; those in ASCII say nothing and may be left out.
    """
    told = [name for name in names if not name.isascii()]
    fitting = [encoding for encoding in SPOKEN if all(decodes(name, encoding) for name in told)]
    if "utf-8" in fitting:
        return "utf-8"
    scores = {encoding: _score(told[:_MOST], encoding) for encoding in fitting if encoding != DEFAULT}
    best = max(scores, key=scores.__getitem__, default=DEFAULT)
    return best if scores.get(best, 0) >= _PLAUSIBLE else DEFAULT


def decodes(name: bytes, encoding: str) -> bool:
    """Whether a name is valid in an encoding."""
    try:
        name.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _score(names: list[bytes], encoding: str) -> float:
    """How plausible names are in an encoding: the share of their letters that are common, and a little for the most frequent."""
    letters = common = frequent = 0
    for name in names:
        text = name.decode(encoding)
        for run in _LETTERS.finditer(text):
            letters += len(run[0])
            beside = text[max(0, run.start() - 1) : run.start()] + text[run.end() : run.end() + 1]
            in_latin = any(letter.isalpha() for letter in beside)
            if (len(run[0]) == 1 or in_latin) if encoding == "cp866" else (len(run[0]) == 1 and in_latin):
                continue  # `Bj\x94rn`: no word of Latin letters holds one of another script
            for letter, times in Counter(run[0]).items():
                common += times * _is_common(letter, encoding)
                frequent += times * (letter in _FREQUENT_KOREAN if encoding == "cp949" else letter in _FREQUENT_CHINESE)
    return (common + 0.3 * frequent) / letters if letters else 0.0


def _is_common(letter: str, encoding: str) -> bool:
    """Whether a letter is of the frequent ones of its standard, or punctuation that goes with them."""
    if encoding == "cp866":
        return "а" <= letter.lower() <= "я" or letter in "ёЁ№"
    try:
        code = letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    lead = code[0]
    if len(code) < 2:
        return False
    if encoding == "gbk":  # GB 2312: punctuation, and hanzi of level 1
        return code[1] >= 0xA1 and (lead in (0xA1, 0xA3) or 0xB0 <= lead <= 0xD7)
    if encoding == "cp932":  # JIS X 0208: punctuation, kana, and kanji of level 1
        return lead in (0x81, 0x83) or (lead == 0x82 and code[1] >= 0x9F) or 0x88 <= lead <= 0x97
    if encoding == "cp949":  # KS X 1001: punctuation and hangul
        return code[1] >= 0xA1 and (lead in (0xA1, 0xA3) or 0xB0 <= lead <= 0xC8)
    return lead in (0xA1, 0xA2) or 0xA4 <= lead <= 0xC6  # Big5: punctuation, and hanzi of level 1

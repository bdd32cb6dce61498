# animegen's completion for bash: `source` this file, or copy it to ~/.local/share/bash-completion/completions/animegen
_animegen() {
    local IFS=$'\n'
    COMPREPLY=($(_ANIMEGEN_COMPLETE=bash "${1/#\~/$HOME}" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _animegen animegen

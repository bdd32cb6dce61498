# animegen's completion for fish: copy this file to ~/.config/fish/completions/animegen.fish
function __animegen
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l found (env _ANIMEGEN_COMPLETE=fish $program $words "$current" 2>/dev/null)
    if set -q found[1]
        printf '%s\n' $found
    else
        set -l option (string match -r -- '^-.*?=' "$current")
        printf "$option%s\n" (__fish_complete_path (string replace -r -- '^-.*?=' '' "$current"))
    end
end
complete -c animegen -f -a '(__animegen)'

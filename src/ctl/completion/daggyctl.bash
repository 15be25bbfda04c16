# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for daggyctl(1)

_daggyctl_contexts() {
    daggyctl context list 2>/dev/null | awk 'NR > 1 { print $2 }'
}

_daggyctl() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} verb='' i
    local verbs='run submit list summary top show wait output stop retry forget events ui capacity impact drain upgrade lease members workers worker join leave context queues'
    local options='--host --context --queue --token-file --cacert --cert --key --json --help --version'
    local task='--id --cores --memory --resource --timeout --grace --env --directory --user --umask --stdin
        --tasks-max --property --label --when-full --retry --backoff --priority --after --file'
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ " $verbs " == *" ${COMP_WORDS[i]} "* ]]; then
            verb=${COMP_WORDS[i]}
            break
        fi
    done
    case $previous in
    --token-file | --cacert | --cert | --key | --stdin | --file | --each | -i)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --directory | -C)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
        return
        ;;
    --state | -s) mapfile -t COMPREPLY < <(compgen -W 'queued running completed errored killed' -- "$word"); return ;;
    --sort)
        mapfile -t COMPREPLY < <(compgen -W 'id state result worker cores memory submitted started stopped time' -- "$word")
        return
        ;;
    --output | -o) mapfile -t COMPREPLY < <(compgen -W 'table wide json name' -- "$word"); return ;;
    --context)
        mapfile -t COMPREPLY < <(compgen -W "$(_daggyctl_contexts)" -- "$word")
        return
        ;;
    use | remove)
        if [[ $verb == context ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$(_daggyctl_contexts)" -- "$word")
            return
        fi
        ;;
    --when-full) mapfile -t COMPREPLY < <(compgen -W 'queue reject' -- "$word"); return ;;
    esac
    case $verb in
    '') options+=" $verbs" ;;
    run) options+=" $task --no-stdin" ;;
    submit) options+=" $task --wait --each" ;;
    list) options+=' --state --label --since --sort --output --watch' ;;
    summary) options+=' --state --label --since' ;;
    wait) options+=' --timeout --label' ;;
    output) options+=' --follow --stderr --all' ;;
    stop) options+=' --wait --label --state' ;;
    retry | forget) options+=' --label --state' ;;
    impact) options+=' --cores --memory --resource' ;;
    drain) options='on off' ;;
    worker) options='enable disable' ;;
    join) options+=' --id --url' ;;
    ui) options+=' --url' ;;
    context) options='list use set remove' ;;
    esac
    case $verb in
    show | wait | output | stop | retry | forget)
        # Of the default daemon only: ids of another one would be wrong.
        [[ $word == -* ]] || options=$(timeout 2 daggyctl list 2>/dev/null | awk 'NR > 1 { print $1 }')
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
}
complete -o default -F _daggyctl daggyctl

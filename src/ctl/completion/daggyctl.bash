# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for daggyctl(1)

_daggyctl() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} verb='' i
    local verbs='run submit list show wait output stop retry forget events ui capacity impact drain upgrade lease workers worker join leave queues'
    local options='--host --queue --token-file --cacert --cert --key --json --help --version'
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
    --token-file | --cacert | --cert | --key | --stdin | --file | -i)
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
    --when-full) mapfile -t COMPREPLY < <(compgen -W 'queue reject' -- "$word"); return ;;
    esac
    case $verb in
    '') options+=" $verbs" ;;
    run) options+=" $task --no-stdin" ;;
    submit) options+=" $task --wait" ;;
    list) options+=' --state --label' ;;
    wait) options+=' --timeout' ;;
    output) options+=' --follow --stderr' ;;
    stop) options+=' --wait --label --state' ;;
    retry | forget) options+=' --label --state' ;;
    impact) options+=' --cores --memory --resource' ;;
    drain) options='on off' ;;
    worker) options='enable disable' ;;
    join) options+=' --id --url' ;;
    ui) options+=' --url' ;;
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

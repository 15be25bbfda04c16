# SPDX-License-Identifier: LGPL-2.1-or-later
# fish completion for daggyctl(1)

set -l verbs run submit list summary top show wait output stop forget events ui capacity impact drain upgrade lease workers worker join leave context queues
set -l before "not __fish_seen_subcommand_from $verbs"
set -l task '__fish_seen_subcommand_from run submit'
set -l resources '__fish_seen_subcommand_from run submit impact'

# Of the default daemon only: ids of another one would be wrong.
function __daggyctl_ids
    timeout 2 daggyctl list 2>/dev/null | awk 'NR > 1 { print $1 }'
end

function __daggyctl_contexts
    daggyctl context list 2>/dev/null | awk 'NR > 1 { print $2 }'
end

complete -c daggyctl -f
complete -c daggyctl -n $before -a run -d 'Submit a task and copy its output'
complete -c daggyctl -n $before -a submit -d 'Submit a task and print its id'
complete -c daggyctl -n $before -a list -d 'List the tasks'
complete -c daggyctl -n $before -a summary -d 'Count the tasks by how they are'
complete -c daggyctl -n $before -a top -d 'Show live what runs'
complete -c daggyctl -n $before -a show -d 'Tell all about tasks'
complete -c daggyctl -n $before -a wait -d 'Wait until tasks are finished'
complete -c daggyctl -n $before -a output -d 'Print what tasks wrote'
complete -c daggyctl -n $before -a stop -d 'Stop tasks'
complete -c daggyctl -n $before -a forget -d 'Drop the results of tasks'
complete -c daggyctl -n $before -a events -d 'Print each change'
complete -c daggyctl -n $before -a ui -d 'Print the address of the page for a browser'
complete -c daggyctl -n $before -a capacity -d 'Print what is free'
complete -c daggyctl -n $before -a impact -d 'Print which share a task would take'
complete -c daggyctl -n $before -a drain -d 'Have no more tasks started'
complete -c daggyctl -n $before -a upgrade -d 'Have the installed runner take over'
complete -c daggyctl -n $before -a lease -d 'Print which queue holds this runner'
complete -c daggyctl -n $before -a workers -d 'List the runners of a queue'
complete -c daggyctl -n $before -a worker -d 'Have a queue use a runner or not'
complete -c daggyctl -n $before -a join -d 'Let a queue use this host\'s runner'
complete -c daggyctl -n $before -a leave -d 'Undo that'
complete -c daggyctl -n $before -a context -d 'Give daemons names'
complete -c daggyctl -n $before -a queues -d 'List the queues that share runners'

complete -c daggyctl -s H -l host -x -d 'Whom to ask'
complete -c daggyctl -l context -x -a '(__daggyctl_contexts)' -d 'The daemon of that name'
complete -c daggyctl -s q -l queue -d 'Speak to the queue'
complete -c daggyctl -l token-file -r -F -d 'Show the token in a file'
complete -c daggyctl -l cacert -r -F -d 'Authorities of the daemon'
complete -c daggyctl -l cert -r -F -d 'An own certificate'
complete -c daggyctl -l key -r -F -d 'The key of --cert'
complete -c daggyctl -s j -l json -d 'Print what the daemon sent'
complete -c daggyctl -s h -l help -d 'Print a summary'
complete -c daggyctl -s V -l version -d 'Print the version'

complete -c daggyctl -n $resources -s c -l cores -x -d 'Cores, fractions allowed'
complete -c daggyctl -n $resources -s m -l memory -x -d 'Megabytes, or with a unit'
complete -c daggyctl -n $resources -s r -l resource -x -d 'Another capacity'
complete -c daggyctl -n "$task join" -l id -x -d 'Its id'
complete -c daggyctl -n '__fish_seen_subcommand_from join' -l url -x -d 'Where the queue reaches it'
complete -c daggyctl -n '__fish_seen_subcommand_from ui' -l url -x -d 'Where the browser reaches it'
complete -c daggyctl -n "$task wait" -s t -l timeout -x -d 'Only so long'
complete -c daggyctl -n $task -l grace -x -d 'Between SIGTERM and SIGKILL'
complete -c daggyctl -n $task -s E -l env -x -d 'A variable of its environment'
complete -c daggyctl -n $task -s C -l directory -x -a '(__fish_complete_directories)' -d 'Where it runs'
complete -c daggyctl -n $task -s u -l user -x -a '(__fish_complete_users)' -d 'The account it runs as'
complete -c daggyctl -n $task -l umask -x -d 'In octal'
complete -c daggyctl -n $task -s i -l stdin -r -F -d 'What it reads'
complete -c daggyctl -n '__fish_seen_subcommand_from run' -s n -l no-stdin -d 'Do not hand on what is piped to us'
complete -c daggyctl -n $task -l tasks-max -x -d 'Processes and threads'
complete -c daggyctl -n $task -s p -l property -x -d 'A resource-control property of systemd'
complete -c daggyctl -n "$task list summary wait" -s l -l label -x -d 'A label, to find it by'
complete -c daggyctl -n $task -l when-full -x -a 'queue reject' -d 'Wait until there is room, or be refused'
complete -c daggyctl -n $task -l retry -x -d 'How often to run it again'
complete -c daggyctl -n $task -l backoff -x -d 'The time before that'
complete -c daggyctl -n $task -l priority -x -d 'Higher goes first'
complete -c daggyctl -n $task -l file -r -F -d 'Read the whole request from a file'
complete -c daggyctl -n $task -a '(__fish_complete_subcommand)'
complete -c daggyctl -n '__fish_seen_subcommand_from submit stop' -s w -l wait -d 'Wait for it'
complete -c daggyctl -n '__fish_seen_subcommand_from submit' -l each -r -F -d 'A task for each line'
complete -c daggyctl -n '__fish_seen_subcommand_from list summary' -l since -x -d 'What was submitted since then'
complete -c daggyctl -n '__fish_seen_subcommand_from list' -l sort -x \
    -a 'id state result worker cores memory submitted started stopped time' -d 'By what'
complete -c daggyctl -n '__fish_seen_subcommand_from list' -s o -l output -x -a 'table wide json name' -d 'In what form'
complete -c daggyctl -n '__fish_seen_subcommand_from list' -l watch -d 'Go on with each change'
complete -c daggyctl -n '__fish_seen_subcommand_from context' -a 'list use set remove'
complete -c daggyctl -n '__fish_seen_subcommand_from context' -a '(__daggyctl_contexts)'
complete -c daggyctl -n '__fish_seen_subcommand_from list summary' -s s -l state -x \
    -a 'queued running completed errored killed' -d 'Only those'
complete -c daggyctl -n '__fish_seen_subcommand_from output' -s e -l stderr -d 'What they wrote to stderr'
complete -c daggyctl -n '__fish_seen_subcommand_from output' -s a -l all -d 'Both streams'
complete -c daggyctl -n '__fish_seen_subcommand_from output' -s f -l follow -d 'Until they end'
complete -c daggyctl -n '__fish_seen_subcommand_from show wait output stop forget' -a '(__daggyctl_ids)'
complete -c daggyctl -n '__fish_seen_subcommand_from drain' -a 'on off'
complete -c daggyctl -n '__fish_seen_subcommand_from worker' -a 'enable disable'

/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The leader: the first and last process of a task's scope.
 *
 * daggyr has it forked (spawner.c), lets systemd put it into the scope, and tells it to go. It executes the
 * command, adopts what the command leaves behind, ends it when told, reads what the scope used while the
 * scope still exists, and speaks to the journal from inside, so that entries carry the scope's unit. It runs
 * as daggyr's account, not the task's: the task can neither signal nor trace it. */

#include "leader/leader.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "core/wire/leader-protocol.h"
#include "leader/cgroup.h"
#include "leader/command.h"
#include "leader/journal.h"

/* Processes of the scope that are no descendants of ours end without a SIGCHLD; look again this often. */
#define RECHECK_USEC (20 * USEC_PER_MSEC)

/* On cgroup v1 nobody tells us of OOM kills, so we look. */
#define OOM_POLL_USEC (1 * USEC_PER_SEC)

/* How long a journald that takes nothing may hold up the end of a task. */
#define JOURNAL_FLUSH_USEC (5 * USEC_PER_SEC)

typedef enum Phase {
        PHASE_PARKED,  /* no command yet */
        PHASE_RUNNING, /* the command's main process lives */
        PHASE_ENDING,  /* it does not; others may */
        PHASE_EMPTY,   /* reported so; waits for FINISH */
        PHASE_FINISHED,
} Phase;

typedef struct Leader {
        Phase phase;
        LeaderOrder order;
        Cgroup *cgroup;
        pid_t main_pid;
        int signal_fd;
        JournalRelay relay;
        bool feed_open, relay_is_full;
        bool stopping; /* SIGTERM was sent to everybody */
        bool stopped_by_system;
        usec_t kill_usec;  /* when SIGKILL follows; USEC_INFINITY while not stopping */
        LeaderUsage usage; /* as of EMPTY */
} Leader;

static usec_t now(void) {
        return usec_now(CLOCK_BOOTTIME);
}

/* daggyr not reading is daggyr dead: nobody is left to tell. */
static void report(const LeaderMessage *message) {
        (void) send(LEADER_FD_CONTROL, message, sizeof(*message), MSG_NOSIGNAL);
}

/* The kernel's own account of reaped children stands in where the cgroup has no such file. */
static LeaderUsage leader_usage(Leader *leader) {
        LeaderUsage usage = {};
        if (leader->cgroup)
                cgroup_usage(leader->cgroup, &usage);

        struct rusage children;
        if (getrusage(RUSAGE_CHILDREN, &children) < 0)
                return usage;
        if (usage.cpu_usec == 0)
                usage.cpu_usec = (uint64_t) (children.ru_utime.tv_sec + children.ru_stime.tv_sec) *
                                                USEC_PER_SEC +
                                (uint64_t) (children.ru_utime.tv_usec + children.ru_stime.tv_usec);
        if (usage.memory_peak_bytes == 0)
                usage.memory_peak_bytes = (uint64_t) children.ru_maxrss * 1024;
        if (usage.tasks_peak == 0)
                usage.tasks_peak = 1;
        return usage;
}

static void leader_stop(Leader *leader, usec_t grace_usec) {
        if (leader->stopping || leader->phase == PHASE_PARKED || leader->phase >= PHASE_EMPTY)
                return;
        leader->stopping = true;
        leader->kill_usec = usec_add(now(), grace_usec);
        (void) cgroup_signal_others(leader->cgroup, SIGTERM);
        (void) cgroup_signal_others(leader->cgroup, SIGCONT);
}

static void leader_empty(Leader *leader) {
        leader->phase = PHASE_EMPTY;
        leader->kill_usec = USEC_INFINITY;
        leader->usage = leader_usage(leader);
        report(&(LeaderMessage) {
                        .type = LEADER_EMPTY,
                        .stopped_by_system = leader->stopped_by_system,
                        .usage = leader->usage,
        });
}

static void leader_check_empty(Leader *leader) {
        if (leader->phase != PHASE_ENDING)
                return;
        int is_alone = cgroup_is_ours_alone(leader->cgroup); /* or an error: it is looked again */
        if (is_alone == 0)
                leader_stop(leader, leader->order.grace_usec);
        else if (is_alone > 0)
                leader_empty(leader);
}

/* systemd passes over a device that is not there, and the command would fail in ways of its own. */
static int find_devices(const LeaderOrder *order, int32_t *reterr_index) {
        for (int32_t i = 0; order->devices && order->devices[i]; i++) {
                struct stat st;
                *reterr_index = i;
                if (stat(order->devices[i], &st) < 0)
                        return -errno;
                if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
                        return -ENODEV;
        }
        *reterr_index = 0;
        return 0;
}

static void leader_go(Leader *leader) {
        if (leader->phase != PHASE_PARKED)
                return;

        LeaderStep step = LEADER_STEP_SCOPE;
        int32_t device = 0;
        int r = cgroup_open_own(leader->order.unit, &leader->cgroup);
        if (r >= 0) {
                step = LEADER_STEP_DEVICE;
                r = find_devices(&leader->order, &device);
        }
        if (r >= 0)
                r = command_start(&leader->order, &leader->main_pid, &step);
        if (r < 0) {
                report(&(LeaderMessage) {
                                .type = LEADER_EXEC_FAILED,
                                .error = -r,
                                .step = (int32_t) step,
                                .exit_code = device,
                });
                /* Without the scope there is nothing to wait for, nor anything we may touch. */
                leader->phase = leader->cgroup ? PHASE_ENDING : PHASE_FINISHED;
        } else {
                report(&(LeaderMessage) { .type = LEADER_STARTED });
                leader->phase = PHASE_RUNNING;
        }

        /* The task's ends of its streams are the task's alone, or daggyr would never see them close. */
        _cleanup_(fd_close) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; fd <= STDERR_FILENO; fd++)
                (void) (null_fd < 0 ? close(fd) : dup2(null_fd, fd));
        (void) close(LEADER_FD_STDIN);
        (void) privileges_drop(CAP_KILL);
        leader_check_empty(leader);
}

static void leader_main_exited(Leader *leader, const siginfo_t *info) {
        bool exited = info->si_code == CLD_EXITED;
        int is_alone = cgroup_is_ours_alone(leader->cgroup);
        leader->phase = PHASE_ENDING;
        report(&(LeaderMessage) {
                        .type = LEADER_EXITED,
                        .exit_code = exited ? info->si_status : -1,
                        .signal = exited ? 0 : info->si_status,
                        .core_dumped = info->si_code == CLD_DUMPED,
                        .leftovers = is_alone == 0,
                        .stopped_by_system = leader->stopped_by_system,
        });
        if (is_alone > 0)
                leader_empty(leader);
}

/* Reaps everybody: the command, and what it left to us as their subreaper. */
static void leader_reap(Leader *leader) {
        for (;;) {
                siginfo_t info = {};
                if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
                        return;
                if (info.si_pid == leader->main_pid)
                        leader_main_exited(leader, &info);
        }
}

static void leader_read_signals(Leader *leader) {
        struct signalfd_siginfo info;
        while (read(leader->signal_fd, &info, sizeof(info)) == (ssize_t) sizeof(info)) {
                if (info.ssi_signo != SIGTERM || leader->stopping)
                        continue;
                /* systemd sent it to everybody else as well: only the grace period is left to start. */
                leader->stopped_by_system = true;
                leader_stop(leader, leader->order.grace_usec);
        }
        leader_reap(leader);
}

static void leader_read_control(Leader *leader) {
        LeaderMessage message;
        ssize_t n = recv(LEADER_FD_CONTROL, &message, sizeof(message), MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
                return;
        if (n != (ssize_t) sizeof(message)) {
                /* daggyr is gone, and a task never outlives it. */
                if (leader->cgroup)
                        (void) cgroup_signal_others(leader->cgroup, SIGKILL);
                leader->phase = PHASE_FINISHED;
                return;
        }
        if (message.type == LEADER_GO)
                leader_go(leader);
        else if (message.type == LEADER_STOP)
                leader_stop(leader, message.grace_usec);
        else if (message.type == LEADER_FINISH)
                leader->phase = PHASE_FINISHED;
}

/* One OOM kill ends the whole task, as systemd's OOMPolicy=stop does for services, on every hierarchy. */
static void leader_check_oom(Leader *leader) {
        if (leader->phase == PHASE_RUNNING && cgroup_oom_kills(leader->cgroup) > 0)
                leader_stop(leader, leader->order.grace_usec);
}

static usec_t leader_next_wakeup(const Leader *leader) {
        usec_t wakeup = leader->kill_usec;
        if (leader->phase == PHASE_ENDING)
                wakeup = now() + RECHECK_USEC;
        else if (leader->phase == PHASE_RUNNING && !leader->stopping && cgroup_oom_fd(leader->cgroup) < 0)
                wakeup = now() + OOM_POLL_USEC;
        return wakeup < leader->kill_usec ? wakeup : leader->kill_usec;
}

static int poll_timeout_msec(usec_t wakeup_usec) {
        if (wakeup_usec == USEC_INFINITY)
                return -1;
        return (int) ((usec_subtract(wakeup_usec, now()) + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
}

static void leader_on_time(Leader *leader) {
        if (leader->stopping && leader->kill_usec <= now()) {
                (void) cgroup_signal_others(leader->cgroup, SIGKILL);
                leader->kill_usec = now() + RECHECK_USEC; /* what was just being forked */
        }
        leader_check_oom(leader);
        leader_check_empty(leader);
}

static void leader_relay(Leader *leader) {
        if (!leader->feed_open)
                return;
        int r = journal_relay(&leader->relay, LEADER_FD_FEED);
        leader->relay_is_full = r == -EAGAIN;
        leader->feed_open = r != -EPIPE;
}

static void leader_run(Leader *leader) {
        while (leader->phase != PHASE_FINISHED) {
                bool held = leader->relay_is_full;
                int oom_fd = leader->cgroup ? cgroup_oom_fd(leader->cgroup) : -EBADF;
                struct pollfd fds[] = {
                        { .fd = leader->signal_fd, .events = POLLIN },
                        { .fd = LEADER_FD_CONTROL, .events = POLLIN },
                        { .fd = held || !leader->feed_open ? -1 : LEADER_FD_FEED, .events = POLLIN },
                        { .fd = held ? leader->relay.fd : -1, .events = POLLOUT },
                        { .fd = oom_fd < 0 || leader->phase != PHASE_RUNNING ? -1 : oom_fd,
                          .events = POLLPRI },
                };
                int n = poll(fds, sizeof(fds) / sizeof(*fds), poll_timeout_msec(leader_next_wakeup(leader)));
                if (n < 0)
                        return; /* every signal is blocked: it is no EINTR */

                if (fds[0].revents)
                        leader_read_signals(leader);
                if (fds[2].revents || fds[3].revents)
                        leader_relay(leader);
                if (fds[1].revents)
                        leader_read_control(leader);
                leader_on_time(leader);
        }
}

/* The last words: what the feed still holds, then the reading of when nobody else was left. */
static void leader_finish(Leader *leader) {
        /* Outside its scope it was told nothing, and no end of the feed will come either. */
        usec_t patience = leader->cgroup ? JOURNAL_FLUSH_USEC : 0;
        journal_relay_finish(&leader->relay, LEADER_FD_FEED, now() + patience);
        report(&(LeaderMessage) {
                        .type = LEADER_USAGE,
                        .entries_lost = leader->relay.n_lost,
                        .usage = leader->usage,
        });
}

static int leader_read_order(LeaderOrder *ret) {
        struct stat st;
        if (fstat(LEADER_FD_ORDER, &st) < 0)
                return -errno;
        void *block = mmap(
                        NULL, (size_t) st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, LEADER_FD_ORDER, 0);
        if (block == MAP_FAILED)
                return -errno;
        (void) close(LEADER_FD_ORDER);
        return leader_order_decode(block, (size_t) st.st_size, ret);
}

static int leader_init(Leader *leader) {
        /* Not traceable by anybody of the same account, and no core dumps with its memory in them. */
        if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                return -errno;
        (void) prctl(PR_SET_NAME, "daggyr-leader");

        sigset_t all;
        sigfillset(&all);
        if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
                return -errno;
        sigset_t wanted;
        sigemptyset(&wanted);
        sigaddset(&wanted, SIGCHLD);
        sigaddset(&wanted, SIGTERM);
        leader->signal_fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
        if (leader->signal_fd < 0)
                return -errno;
        if (syscall(SYS_close_range, LEADER_FD_CONTROL, LEADER_FD_FEED, CLOSE_RANGE_CLOEXEC) < 0)
                return -errno;
        return leader_read_order(&leader->order);
}

_Noreturn void leader_main(void) {
        static Leader leader = {
                .relay.fd = -EBADF,
                .feed_open = true,
                .kill_usec = USEC_INFINITY,
        };
        if (leader_init(&leader) < 0)
                _exit(EXIT_FAILURE);
        leader_run(&leader);
        leader_finish(&leader);
        _exit(EXIT_SUCCESS); /* the task waits for our end, not for what free() and exit handlers do */
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Of whom polkit is told: what does not take a polkit. */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/polkit.h"
#include "test.h"

static int pidfd_of(pid_t pid) {
        return (int) syscall(SYS_pidfd_open, pid, 0);
}

static void a_process_is_described(void **state) {
        PolkitSubject subject = {}, again = {};
        check_int("without pidfd", polkit_subject_from_process(getpid(), getuid(), -EBADF, &subject), 0);
        check_int("pid", subject.pid, getpid());
        check_u64("uid", subject.uid, getuid());
        check_true("started after the machine", subject.start_time > 0);
        check_true("no pidfd", subject.pidfd < 0);

        int pidfd = pidfd_of(getpid());
        check_int("with pidfd", polkit_subject_from_process(getpid(), getuid(), pidfd, &again), 0);
        check_int("pidfd", again.pidfd, pidfd);
        check_u64("the same start", again.start_time, subject.start_time);
        check_int("the caller's to close", close(again.pidfd), 0);
}

static void another_users_process_is_not_taken(void **state) {
        PolkitSubject subject = {};
        int pidfd = pidfd_of(getpid());
        check_int("pid used again",
                  polkit_subject_from_process(getpid(), getuid() + 1, -EBADF, &subject),
                  -EPERM);
        check_int("the same with pidfd",
                  polkit_subject_from_process(getpid(), getuid() + 1, pidfd, &subject),
                  -EPERM);
        check_int("closed", close(pidfd), -1);
}

static void a_process_that_has_ended_is_not_taken(void **state) {
        PolkitSubject subject = {};
        pid_t child = fork();
        if (child == 0)
                _exit(0);
        int pidfd = pidfd_of(child);
        struct pollfd ended = { .fd = pidfd, .events = POLLIN };
        check_int("ended", poll(&ended, 1, 60 * 1000), 1);
        /* As a zombie it still has its pid. */
        check_int("ended, by pidfd",
                  polkit_subject_from_process(child, getuid(), dup(pidfd), &subject),
                  -ESRCH);
        check_int("reaped", waitpid(child, NULL, 0), child);
        check_int("gone", polkit_subject_from_process(child, getuid(), -EBADF, &subject), -ESRCH);
        /* The pid is another's by now: this test's own, which may well be there, and of the right user. */
        check_int("used again", polkit_subject_from_process(getpid(), getuid(), pidfd, &subject), -ESRCH);
        check_int("cannot be seen", polkit_subject_from_process(0, getuid(), -EBADF, &subject), -ESRCH);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_process_is_described),
                cmocka_unit_test(another_users_process_is_not_taken),
                cmocka_unit_test(a_process_that_has_ended_is_not_taken),
        };
        int pidfd = pidfd_of(getpid());
        if (pidfd < 0) {
                (void) puts("1..0 # SKIP there is no pidfd_open() here: valgrind 3.19 does not know it");
                return 0;
        }
        (void) close(pidfd);
        return cmocka_run_group_tests_name("polkit", tests, NULL, NULL);
}

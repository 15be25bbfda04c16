#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Usage: core-is-pure.sh LIBCORE
#
# The core decides, it does not act: none of its objects may need a symbol that reaches for a descriptor, a
# process, a clock, the environment, a lock, a stream, or a library that does.

set -eu

prefixes='sd_|MHD_|curl_|sqlite3_|gnutls_|pthread_|epoll_|timerfd_|exec|spawn|posix_spawn|sem_|mq_|shm_|std(in|out|err)$'

names='
open open64 openat openat64 creat close dup dup2 dup3 pipe pipe2 read write pread pwrite readv writev
lseek fcntl ioctl poll ppoll select socket socketpair bind listen accept accept4 connect send sendto
sendmsg recv recvfrom recvmsg eventfd inotify_init1 memfd_create mmap stat fstat lstat statx access unlink rename mkdir
opendir readdir getcwd chdir umask
fork vfork clone kill raise signal sigaction sigprocmask wait waitpid waitid prctl setuid setgid getpid getppid
getuid geteuid getgid getegid getpwnam getpwnam_r getpwuid getpwuid_r getgrnam getgrnam_r getrlimit setrlimit
clock_gettime clock_getres gettimeofday time times clock sleep usleep nanosleep localtime localtime_r gmtime
mktime tzset
getenv secure_getenv setenv putenv unsetenv setlocale
gethostname sethostname uname sysconf sysinfo getaddrinfo gethostbyname
random rand srand srandom rand_r drand48 getrandom getentropy
printf fprintf vprintf vfprintf dprintf vdprintf puts fputs putchar fputc putc putwchar perror fopen fopen64
fdopen freopen fclose fflush fread fwrite fgets getline scanf fscanf syslog vsyslog
exit _exit _Exit atexit strtok
usec_now log_line log_errno log_set_level
'

[ $# -eq 1 ] || { echo "Usage: $0 LIBCORE" >&2; exit 2; }

# _FORTIFY_SOURCE turns printf() into __printf_chk(), the C23 headers strtol() into __isoc23_strtol().
symbols=$(nm -u "$1" | sed -n 's/^ *U //p' | sed 's/@.*//' | sort -u)
[ -n "$symbols" ] || { echo "$1: no symbols: is this the core?" >&2; exit 1; }

pattern=$(echo $names | tr ' ' '|')
found=$(echo "$symbols" | grep -E "^(__)?(isoc[0-9]+_)?((${prefixes})|(${pattern})(_chk|_2)?\$)" || true)
if [ -n "$found" ]; then
        echo "The core is not pure, it needs:"
        echo "$found"
        nm -A -u "$1" | grep -F -w "$found"
        exit 1
fi >&2

//! The default filter of system calls, as data: what Docker's default profile lets through, in our own order.
//!
//! Read by [`super::seccomp`]. Names that a kernel or a libseccomp does not know are ignored by the runtimes, so the
//! lists serve every machine. What is in no list fails with `EPERM`.

/// Let through always, by what they are for.
pub(super) const ALWAYS: [&str; 12] = [
    // Opening, reading and writing.
    "open openat openat2 creat close close_range read readv pread64 preadv preadv2 write writev pwrite64 pwritev \
     pwritev2 lseek _llseek dup dup2 dup3 fcntl fcntl64 ioctl sendfile sendfile64 splice tee vmsplice \
     copy_file_range readahead fadvise64 fadvise64_64 fallocate ftruncate ftruncate64 truncate truncate64 sync \
     syncfs fsync fdatasync sync_file_range cachestat",
    // Names and attributes of files.
    "access faccessat faccessat2 stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 \
     fstatfs fstatfs64 statmount listmount chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat \
     lchown lchown32 link linkat symlink symlinkat unlink unlinkat rename renameat renameat2 readlink readlinkat \
     mkdir mkdirat rmdir mknod mknodat getdents getdents64 getcwd chdir fchdir umask utime utimes utimensat \
     utimensat_time64 futimesat name_to_handle_at",
    "getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr \
     listxattrat removexattr lremovexattr fremovexattr removexattrat",
    // Waiting for many.
    "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl \
     epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4 \
     inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark io_setup io_destroy io_submit \
     io_cancel io_getevents io_pgetevents io_pgetevents_time64 flock",
    // Memory.
    "brk mmap mmap2 munmap mremap remap_file_pages mprotect madvise mincore msync mlock mlock2 mlockall munlock \
     munlockall mseal memfd_create memfd_secret membarrier map_shadow_stack pkey_alloc pkey_free pkey_mprotect \
     process_mrelease shmat shmctl shmdt shmget",
    // Processes and threads.
    "execve execveat exit exit_group fork vfork wait4 waitid waitpid getpid getppid gettid getpgid getpgrp getsid \
     setpgid setsid prctl set_tid_address set_thread_area get_thread_area set_robust_list get_robust_list rseq futex \
     futex_time64 futex_waitv futex_wait futex_wake futex_requeue restart_syscall pidfd_open pidfd_send_signal \
     seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self lsm_get_self_attr lsm_list_modules \
     lsm_set_self_attr uretprobe",
    // Signals.
    "kill tkill tgkill pause alarm sigaltstack sigprocmask sigreturn rt_sigaction rt_sigpending rt_sigprocmask \
     rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo",
    // Who one is.
    "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups getgroups32 getresuid getresuid32 \
     getresgid getresgid32 setuid setuid32 setgid setgid32 setgroups setgroups32 setreuid setreuid32 setregid \
     setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 capget capset",
    // Limits, scheduling and what the machine is.
    "getrlimit ugetrlimit setrlimit prlimit64 getrusage getpriority setpriority ioprio_get ioprio_set \
     sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam \
     sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval \
     sched_rr_get_interval_time64 sched_yield getcpu getrandom sysinfo uname times",
    // Time. Setting the clock fails in the kernel for want of the capability.
    "time gettimeofday clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
     clock_nanosleep_time64 clock_adjtime clock_adjtime64 adjtimex nanosleep getitimer setitimer timer_create \
     timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
     timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    // Sockets and pipes.
    "pipe pipe2 socketpair socketcall bind listen accept accept4 connect getsockname getpeername getsockopt \
     setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 shutdown",
    // Messages and semaphores.
    "ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 mq_open mq_unlink mq_notify \
     mq_getsetattr mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64",
];

/// Let through on kernels from 4.8 on, where a filter can no longer be left by tracing.
pub(super) const FROM_4_8: &str = "process_vm_readv process_vm_writev ptrace";

/// Let through with a capability.
pub(super) const WITH_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "init_module finit_module delete_module"),
    ("CAP_SYS_PACCT", "acct"),
    (
        "CAP_SYS_PTRACE",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    (
        "CAP_SYS_TIME",
        "settimeofday stime clock_settime clock_settime64",
    ),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    (
        "CAP_SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Let through on an architecture, by Docker's name of it.
pub(super) const ON_ARCHITECTURE: [(&str, &str); 2] = [
    ("amd64", "arch_prctl modify_ldt"),
    (
        "arm64",
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
];

/// The personalities that a process may take: Linux, Linux for 32 bits, both with the old layout of addresses, and the
/// question which it has.
pub(super) const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Sockets of virtual machines, which reach past every network namespace.
pub(super) const AF_VSOCK: u64 = 40;

/// The flags of `clone` that make namespaces.
pub(super) const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// `ENOSYS`: sends the C library from `clone3`, whose flags a filter cannot see, to `clone`.
pub(super) const NO_SUCH_CALL: u32 = 38;

/// `EPERM`, for all the rest.
pub(super) const NOT_PERMITTED: u32 = 1;

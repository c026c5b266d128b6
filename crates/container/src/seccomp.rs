//! List the system calls that a container may make; every other one is refused.
//!
//! Docker's list without what makes namespaces, mounts, traces, loads or asks the kernel of others: a server needs none
//! of it. `clone3` is answered as if the kernel had none, so that libraries fall back on `clone`, whose flags can be seen.

use serde_json::{Value, json};

const ALLOWED: &str = "\
accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_getres clock_gettime \
clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl \
epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 \
fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr \
fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake futimesat get_robust_list \
get_thread_area getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp \
getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid \
gettimeofday getuid getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
io_destroy io_getevents io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill landlock_add_rule \
landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listxattr listxattrat llistxattr \
lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat \
mknod mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink \
mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat open openat openat2 pause \
pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 \
prlimit64 process_mrelease pselect6 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg \
recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction \
rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo \
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl \
semget semop semtimedop sendfile sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid \
setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt \
setuid setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice stat \
statfs statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete \
timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask \
uname unlink unlinkat uretprobe utime utimensat utimes vfork vmsplice wait4 waitid write writev";

/// Every flag of `clone` that makes a namespace.
const NAMESPACES: u64 = 0x7E02_0000;
/// What `personality` may be set to: the default, 32-bit addresses, one that only asks.
const PERSONALITIES: [u64; 5] = [0, 8, 0x20000, 0x20008, 0xffff_ffff];

/// The profile as the OCI runtime specification has it.
pub(crate) fn profile() -> Value {
    let architecture = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    let mut rules = vec![
        json!({ "names": ALLOWED.split(' ').collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW" }),
        json!({ "names": ["clone"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] }),
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
        // Of what netlink offers, only the list of its own interfaces, which resolvers ask for.
        json!({ "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
            { "index": 0, "value": libc::AF_NETLINK, "op": "SCMP_CMP_EQ" },
            { "index": 2, "value": libc::NETLINK_ROUTE, "op": "SCMP_CMP_EQ" }] }),
    ];
    rules.extend([libc::AF_UNIX, libc::AF_INET, libc::AF_INET6].map(|family| {
        json!({ "names": ["socket"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 0, "value": family, "op": "SCMP_CMP_EQ" }] })
    }));
    rules.extend(PERSONALITIES.map(|personality| {
        json!({ "names": ["personality"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 0, "value": personality, "op": "SCMP_CMP_EQ" }] })
    }));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": [architecture],
        "syscalls": rules,
    })
}

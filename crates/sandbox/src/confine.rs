//! Take from this process everything but its memory and its one socket.
//!
//! Each step says whether it holds; none is skipped in silence, and at the end the process tries to get out.

use crate::{
    limit::FILES_MAX,
    message::{Confinement, Fence},
};
#[cfg(target_os = "linux")]
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
#[cfg(target_os = "linux")]
use std::collections::BTreeMap;
use std::io;

/// What a process may use in all.
pub(crate) struct Use {
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_secs: Option<u64>,
}

/// Confines this process, whose one thread calls. `between` may start threads, which are then as confined as it is.
pub(crate) fn confine<T>(
    files_closed: Fence,
    most: &Use,
    between: impl FnOnce() -> io::Result<T>,
) -> io::Result<(Confinement, T)> {
    // SAFETY: the call takes nothing. The filter refuses it later.
    let parent = unsafe { libc::getppid() };
    let unprivileged = drop_root();
    let resource_limits = limit_resources(most);
    let no_new_privileges = no_new_privileges();
    let landlock = landlock();
    let made = between()?;
    let system_calls = filter_system_calls();
    let confinement = Confinement {
        unprivileged,
        no_new_privileges,
        resource_limits,
        files_closed,
        landlock,
        system_calls,
        files_refused: tried_files(),
        network_refused: tried_network(),
        signals_refused: tried_signals(parent),
    };
    Ok((confinement, made))
}

fn held(result: libc::c_long) -> Fence {
    if result == 0 { Fence::Stands } else { Fence::Missing(io::Error::last_os_error().to_string()) }
}

/// Root becomes nobody; whoever else started this stays who they are.
fn drop_root() -> Fence {
    /// Debian's and most others' `nobody`.
    const NOBODY: libc::uid_t = 65534;
    // SAFETY: these calls take numbers, and a list of no groups.
    unsafe {
        if libc::geteuid() != 0 {
            return Fence::Stands;
        }
        let dropped = libc::setgroups(0, std::ptr::null()) == 0
            && libc::setgid(NOBODY) == 0
            && libc::setuid(NOBODY) == 0
            && libc::setuid(0) != 0;
        if dropped { Fence::Stands } else { Fence::Missing("it is root, and cannot become nobody".into()) }
    }
}

fn limit_resources(most: &Use) -> Fence {
    // What is reserved and not yet written counts for nothing in RLIMIT_DATA, and the engine reserves gigabytes.
    let mut limits = vec![
        ("core dumps", libc::RLIMIT_CORE, 0),
        ("open files", libc::RLIMIT_NOFILE, FILES_MAX),
        ("memory", libc::RLIMIT_DATA, most.memory_bytes),
    ];
    limits.extend(most.cpu_secs.map(|secs| ("processor time", libc::RLIMIT_CPU, secs)));
    let mut free = Vec::new();
    for (name, resource, most) in limits {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` outlives both calls.
        let set = unsafe {
            libc::getrlimit(resource, &mut limit) == 0 && {
                // A limit above the one this process was given cannot be set, and need not be.
                let most = limit.rlim_max.min(most);
                limit = libc::rlimit { rlim_cur: most, rlim_max: most };
                libc::setrlimit(resource, &limit) == 0
            }
        };
        if !set {
            free.push(format!("{name}: {}", io::Error::last_os_error()));
        }
    }
    if free.is_empty() { Fence::Stands } else { Fence::Partly(free.join(", ")) }
}

/// Whether a call that must be refused was.
fn refused(result: libc::c_int, what: &str) -> Fence {
    if result < 0 {
        return Fence::Stands;
    }
    // SAFETY: the call gave this descriptor to nobody else.
    unsafe { libc::close(result) };
    Fence::Missing(format!("{what} was allowed"))
}

fn tried_files() -> Fence {
    // SAFETY: the path is a string that ends with zero.
    refused(unsafe { libc::open(c"/".as_ptr(), libc::O_RDONLY) }, "opening a folder")
}

fn tried_network() -> Fence {
    // SAFETY: the call takes numbers.
    refused(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) }, "an internet socket")
}

/// Tries the one call by which signals are sent here; the signal is 0, of which nobody hears.
fn tried_signals(parent: libc::pid_t) -> Fence {
    // SAFETY: the calls take numbers.
    #[cfg(target_os = "linux")]
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, parent, parent, 0) };
    #[cfg(not(target_os = "linux"))]
    let sent = unsafe { libc::kill(parent, 0) };
    if sent == 0 { Fence::Missing("a signal to the agent was allowed".into()) } else { Fence::Stands }
}

/// Closes what a parent may have left open, before anything else is opened.
#[cfg(target_os = "linux")]
pub(crate) fn close_files() -> Fence {
    // SAFETY: the runner calls this first; nothing of this process is open above the standard streams.
    held(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) })
}

#[cfg(target_os = "linux")]
fn no_new_privileges() -> Fence {
    // SAFETY: the calls take numbers. Not dumpable: another process of the same user cannot look inside.
    held(unsafe {
        libc::c_long::from(
            libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) | libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        )
    })
}

#[cfg(target_os = "linux")]
fn landlock() -> Fence {
    use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
    // The newest whose rights were tried here; an older kernel gives what it has, and says so.
    const KNOWN: ABI = ABI::V6;
    let ruled = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(KNOWN)))
        .and_then(|rules| rules.scope(Scope::from_all(KNOWN)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    match ruled.map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => Fence::Stands,
        Ok(RulesetStatus::PartiallyEnforced) => Fence::Partly("this kernel knows an older Landlock".into()),
        Ok(RulesetStatus::NotEnforced) => Fence::Missing("this kernel has no Landlock".into()),
        Err(error) => Fence::Missing(error.to_string()),
    }
}

/// What an engine, a runtime and one socket need. No path, no other process, no new socket is among it.
#[cfg(target_os = "linux")]
fn allowed_calls() -> Vec<libc::c_long> {
    let mut calls = vec![
        // memory, and code made executable
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_membarrier,
        // images of memories, which have no name
        libc::SYS_memfd_create,
        libc::SYS_ftruncate,
        libc::SYS_pwrite64,
        libc::SYS_fcntl,
        libc::SYS_lseek,
        libc::SYS_fstat,
        // the socket and the poller that are there
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_shutdown,
        libc::SYS_close,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_ppoll,
        // time and threads that are there
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_getrandom,
        libc::SYS_restart_syscall,
        // signals, which the engine's traps are, and the end
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_tgkill,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_epoll_wait, libc::SYS_poll]);
    calls
}

/// Each call that is allowed, and with what: signals go to this process alone, and no file sends them to another.
#[cfg(target_os = "linux")]
fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let only = |argument, value: libc::c_int| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value as u64)?;
        SeccompRule::new(vec![condition])
    };
    let mut rules: BTreeMap<_, _> = allowed_calls().into_iter().map(|call| (call, Vec::new())).collect();
    // SAFETY: the call takes nothing.
    rules.insert(libc::SYS_tgkill, vec![only(0, unsafe { libc::getpid() })?]);
    let mut commands = Vec::new();
    for command in [
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_DUPFD_CLOEXEC,
        libc::F_ADD_SEALS,
        libc::F_GET_SEALS,
    ] {
        commands.push(only(1, command)?);
    }
    rules.insert(libc::SYS_fcntl, commands);
    Ok(rules)
}

#[cfg(target_os = "linux")]
fn filter_system_calls() -> Fence {
    // Refused rather than killed: a refusal is an error that libraries know, and what tries is already confined.
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let made = TargetArch::try_from(std::env::consts::ARCH)
        .and_then(|arch| SeccompFilter::new(rules()?, refuse, SeccompAction::Allow, arch))
        .and_then(|filter| -> Result<BpfProgram, BackendError> { filter.try_into() });
    let program = match made {
        Ok(program) => program,
        Err(error) => return Fence::Missing(error.to_string()),
    };
    match seccompiler::apply_filter_all_threads(&program) {
        Ok(()) => Fence::Stands,
        Err(error) => Fence::Missing(error.to_string()),
    }
}

#[cfg(not(target_os = "linux"))]
fn elsewhere() -> Fence {
    Fence::Missing("only Linux has it".into())
}

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere as close_files;
#[cfg(not(target_os = "linux"))]
use elsewhere as no_new_privileges;
#[cfg(not(target_os = "linux"))]
use elsewhere as landlock;
#[cfg(not(target_os = "linux"))]
use elsewhere as filter_system_calls;

//! Gives up what a program must not have: ids, capabilities, system calls, resources. Runs as pid 1 of the sandbox; what it
//! gives up, all its children lack.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule, sock_filter,
};

use super::error::{Mechanism, Refusal};
use super::namespaces::Handshake;
use super::spec::Spec;

/// As root: into a user namespace that knows one unprivileged id.
pub(super) fn leave_root(monitor: &Handshake) -> Result<(), Refusal> {
    setgroups(&[]).map_err(|errno| Refusal::new(Mechanism::Privileges, "setgroups", errno))?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| Refusal::new(Mechanism::Namespaces, "", errno))?;
    monitor.ask_and_wait().map_err(|errno| Refusal::new(Mechanism::IdMap, "", errno))
}

/// Becomes the program's user, for good.
pub(super) fn confine(spec: &Spec, limit_memory: bool) -> Result<(), Refusal> {
    let failed = |what: &'static str| move |errno| Refusal::new(Mechanism::Privileges, what, errno);
    let (uid, gid) = (Uid::from_raw(spec.user.inside), Gid::from_raw(spec.user.inside));
    setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
    setresuid(uid, uid, uid).map_err(failed("setresuid"))?;
    set_limits(spec, limit_memory)?;
    prctl::set_no_new_privs().map_err(failed("no_new_privs"))?;
    drop_capabilities().map_err(failed("capset"))?;
    // Pid 1 is of the same user as the program, and none of its business.
    prctl::set_dumpable(false).map_err(failed("dumpable"))?;
    filter_calls().map_err(|errno| Refusal::new(Mechanism::Seccomp, "", errno))
}

fn set_limits(spec: &Spec, limit_memory: bool) -> Result<(), Refusal> {
    let limits = &spec.limits;
    let wanted = [
        (Resource::RLIMIT_CORE, Some(0)),
        (Resource::RLIMIT_NOFILE, Some(limits.open_files)),
        (Resource::RLIMIT_NPROC, limits.processes),
        (Resource::RLIMIT_FSIZE, limits.file_size),
        // What is written to and private, and not the address space: node and others reserve far more than they use.
        (Resource::RLIMIT_DATA, limits.memory.filter(|_| limit_memory)),
    ];
    for (resource, value) in wanted {
        let Some(value) = value else { continue };
        let failed = |errno| Refusal::new(Mechanism::Limits, format!("{resource:?}"), errno);
        let (_, hard) = getrlimit(resource).map_err(failed)?;
        let value = value.min(hard);
        setrlimit(resource, value, value).map_err(failed)?;
    }
    Ok(())
}

/// Sixty-four capabilities in two words, for each of effective, permitted and inheritable: none.
fn drop_capabilities() -> Result<(), Errno> {
    const VERSION_3: u32 = 0x2008_0522;
    const LAST: libc::c_ulong = 63;
    let header = [VERSION_3, 0];
    let none = [0_u32; 6];
    #[expect(unsafe_code, reason = "no safe wrapper of prctl and capset is at hand")]
    // SAFETY: the first takes numbers; the second a header and the two triples that version 3 asks for.
    unsafe {
        for capability in 0..=LAST {
            // Fails on those that the kernel does not know.
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        Errno::result(libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr())).map(drop)
    }
}

/// Calls that no build and no web process needs, and that make the kernel larger for those who look for holes in it. Most
/// would fail for want of a capability; then their code is not even reached.
const DENIED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_modify_ldt, libc::SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];

/// Kinds of sockets that stay within the network namespace; others (vsock to the hypervisor, for one) do not.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Commands that type on somebody's terminal.
const TERMINAL_COMMANDS: [u64; 2] = [0x5412, 0x541C];

fn filter_calls() -> Result<(), Errno> {
    let program = denied_calls().map_err(|_| Errno::EINVAL)?;
    for program in [unknown_calls(), program] {
        seccompiler::apply_filter(&program).map_err(|_| Errno::last())?;
    }
    Ok(())
}

fn denied_calls() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<Rule>> = BTreeMap::new();
    for call in DENIED.iter().chain(DENIED_HERE) {
        rules.insert(*call, Vec::new());
    }
    let new_user = CloneFlags::CLONE_NEWUSER.bits().cast_unsigned().into();
    let nested = Condition::new(0, Len::Qword, Op::MaskedEq(new_user), new_user)?;
    rules.insert(libc::SYS_clone, vec![Rule::new(vec![nested])?]);
    let typing = TERMINAL_COMMANDS
        .iter()
        .map(|command| Rule::new(vec![Condition::new(1, Len::Dword, Op::Eq, *command)?]))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_ioctl, typing);
    let others = FAMILIES
        .iter()
        .map(|family| Condition::new(0, Len::Dword, Op::Ne, family.cast_unsigned().into()))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, vec![Rule::new(others)?]);
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    SeccompFilter::new(rules, SeccompAction::Allow, denied, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// Calls that "are not there": `clone3`, whose flags a filter cannot see, so that the C library takes `clone`; and on
/// `x86_64` those of the x32 interface, which have the same numbers with a bit more and would pass a list of the others.
fn unknown_calls() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    // These codes are numbers below 256 wherever they are declared wider.
    let code = |parts: [u32; 3]| u16::try_from(parts[0] | parts[1] | parts[2]).unwrap_or_default();
    let load_number = code([libc::BPF_LD, libc::BPF_W, libc::BPF_ABS]);
    let if_equal = code([libc::BPF_JMP, libc::BPF_JEQ, libc::BPF_K]);
    let if_at_least = code([libc::BPF_JMP, libc::BPF_JGE, libc::BPF_K]);
    let give = code([libc::BPF_RET, libc::BPF_K, 0]);
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or_default();
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(load_number, 0, 0, 0),
        step(if_equal, 1, 0, clone3),
        step(if_at_least, 0, 1, X32),
        step(give, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
        step(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

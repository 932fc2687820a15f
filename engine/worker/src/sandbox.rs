//! The process gives up what it does not need before it reads a downloaded file: it may read its models
//! and what describes the CPU, write nothing, open no network connection, and start no program.
//!
//! Files are confined by Landlock where the kernel has it, and in any case a seccomp filter denies opening
//! anything for writing along with sockets, programs and tracing.
//!
//! The driver of a graphics processor runs in this process. It opens device nodes for reading and writing, reads its
//! libraries and what the kernel tells of devices, and keeps compiled shaders in a folder. Where there is one, the filter
//! lets files be opened for writing, and Landlock alone says which: so without Landlock none is used. It goes on to deny the
//! opens that empty a file unseen by an old Landlock.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::args::Args;
use crate::gpu;

/// The newest Landlock that we ask for; an older kernel gives what it has.
const LANDLOCK_ABI: ABI = ABI::V6;

/// What llama.cpp and OpenMP read to learn about the machine.
const READABLE: [&str; 5] =
    ["/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system", "/usr/share/zoneinfo"];

/// What drivers of graphics processors read: their libraries and descriptions, and the devices as the kernel tells them.
const GPU_READABLE: [&str; 10] = [
    "/usr/lib",
    "/usr/lib64",
    "/usr/share",
    "/etc/vulkan",
    "/etc/ld.so.cache",
    "/sys/bus/pci",
    "/sys/class/drm",
    "/sys/dev/char",
    "/sys/devices",
    "/proc/driver/nvidia",
];
/// Device nodes that drivers open: those of the kernel's graphics drivers, and NVIDIA's.
const GPU_NODES: [&str; 6] =
    ["/dev/dri", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-modeset"];
/// Of the system calls below, those by which a driver keeps compiled shaders.
const KEEPS_SHADERS: [libc::c_long; 7] = [
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
];

/// System calls with no use here: network, programs, other processes, mounts, the kernel.
const DENIED: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_truncate,
    libc::SYS_chmod,
    libc::SYS_fchmodat,
    libc::SYS_chown,
    libc::SYS_fchownat,
    libc::SYS_creat,
    libc::SYS_openat2,
];

/// The bit that names the same system calls on kernels with the x32 ABI.
const X32: i64 = 0x4000_0000;

/// Confines this process for good. Threads started later inherit it.
pub(crate) fn confine(args: &Args) -> anyhow::Result<()> {
    match confine_files(args).context("landlock")? {
        RulesetStatus::NotEnforced if args.gpu.is_some() => {
            bail!("this kernel has no landlock, so the driver of a graphics processor cannot be confined");
        }
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => tracing::info!("this kernel's landlock is old: some rules are missing"),
        RulesetStatus::NotEnforced => {
            tracing::warn!("this kernel has no landlock: the engine can read files besides its model");
        }
    }
    deny_system_calls(args.gpu.is_some()).context("seccomp")
}

fn confine_files(args: &Args) -> anyhow::Result<RulesetStatus> {
    let read = AccessFs::from_read(LANDLOCK_ABI);
    let readable = READABLE.iter().map(Path::new).filter(|path| path.exists());
    let (gpu_readable, gpu_nodes, shaders) = gpu_paths(args);
    let kept = AccessFs::from_all(LANDLOCK_ABI)
        & !(AccessFs::Execute | AccessFs::IoctlDev | AccessFs::MakeChar | AccessFs::MakeBlock)
        & !(AccessFs::MakeSock | AccessFs::MakeFifo | AccessFs::MakeSym | AccessFs::Refer);
    let node = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::IoctlDev;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK_ABI))?
        .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
        .scope(Scope::from_all(LANDLOCK_ABI))?
        .create()?
        .add_rules(path_beneath_rules(readable, read & !AccessFs::Execute))?
        .add_rules(path_beneath_rules(models(args), AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(gpu_readable, read & !AccessFs::Execute))?
        .add_rules(path_beneath_rules(gpu_nodes, node))?
        .add_rules(path_beneath_rules(shaders, kept))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// What the driver of a graphics processor reads, its nodes, and the folder of its shaders; nothing where none is used.
fn gpu_paths(args: &Args) -> (Vec<&Path>, Vec<&Path>, Vec<&Path>) {
    if args.gpu.is_none() {
        return (Vec::new(), Vec::new(), Vec::new());
    }
    let there = |paths: &'static [&'static str]| paths.iter().map(Path::new).filter(|path| path.exists()).collect();
    (there(&GPU_READABLE), there(&GPU_NODES), args.shader_cache.as_deref().into_iter().collect())
}

/// The model files.
fn models(args: &Args) -> impl Iterator<Item = &Path> {
    let parts = args.parts.iter().map(|(_, path)| path.as_path());
    let adapters = args.adapters.iter().map(|(_, path)| path.as_path());
    [args.model()].into_iter().chain(args.draft_model()).chain(parts).chain(adapters)
}

fn deny_system_calls(has_driver: bool) -> anyhow::Result<()> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let opens = if has_driver { empties_unseen } else { opens_for_writing };
    if has_driver {
        rules.retain(|call, _| !KEEPS_SHADERS.contains(call));
    }
    rules.insert(libc::SYS_open, opens(1)?);
    rules.insert(libc::SYS_openat, opens(2)?);
    let of_x32 = rules.clone().into_iter().map(|(call, rule)| (call | X32, rule));
    rules.extend(of_x32.collect::<Vec<_>>());
    let denied = SeccompAction::Errno(u32::try_from(libc::EPERM)?);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

/// Matches an open whose flags, at this argument, ask for more than reading.
fn opens_for_writing(flags: u8) -> anyhow::Result<Vec<SeccompRule>> {
    let writing = [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC];
    let rules = writing.into_iter().map(|flag| {
        let flag = u64::try_from(flag).expect("open flags are positive");
        let has_flag = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(flags, SeccompCmpArgLen::Dword, has_flag, flag)?;
        Ok(SeccompRule::new(vec![condition])?)
    });
    rules.collect()
}

/// Matches an open whose flags, at this argument, empty a file without asking to write to it. The kernel does that for
/// whoever may write the file, and a Landlock before ABI 3 (Linux 6.2) sees nothing but an open for reading, or, with
/// both bits of the access mode, for neither.
fn empties_unseen(flags: u8) -> anyhow::Result<Vec<SeccompRule>> {
    let asked = u64::try_from(libc::O_ACCMODE | libc::O_TRUNC)?;
    let rules = [libc::O_RDONLY, libc::O_ACCMODE].into_iter().map(|mode| {
        let (asked, unseen) = (SeccompCmpOp::MaskedEq(asked), u64::try_from(mode | libc::O_TRUNC)?);
        let condition = SeccompCondition::new(flags, SeccompCmpArgLen::Dword, asked, unseen)?;
        Ok(SeccompRule::new(vec![condition])?)
    });
    rules.collect()
}

/// Tries to empty a file by an open that does not ask to write to it. The file is one of its own in memory: it may be
/// written, and Landlock has no say in it, so that what denies this is the filter.
fn empty_unseen(mode: libc::c_int) -> io::Result<()> {
    let file = rustix::fs::memfd_create("allerac-sandbox-test", MemfdFlags::CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = u32::try_from(mode | libc::O_TRUNC | libc::O_CLOEXEC).map_err(io::Error::other)?;
    Ok(rustix::fs::open(path, OFlags::from_bits_retain(flags), Mode::empty()).map(drop)?)
}

/// Confines the process and tries what must be denied; an error when anything was allowed.
pub(crate) fn self_test(args: &Args) -> anyhow::Result<()> {
    // As it is when the model is loaded: with the driver open.
    gpu::open(args)?;
    let files = confine_files(args).context("landlock")?;
    deny_system_calls(args.gpu.is_some()).context("seccomp")?;
    let mut attempts = vec![
        ("write a file", std::fs::write("/tmp/allerac-sandbox-test", "x")),
        ("empty a file that it opens to read", empty_unseen(libc::O_RDONLY)),
        ("empty a file that it opens for neither", empty_unseen(libc::O_ACCMODE)),
        ("remove the model", std::fs::remove_file(args.model())),
        ("open a network connection", TcpStream::connect("127.0.0.1:1").map(drop)),
        ("open a port", std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
        ("open a socket file", std::os::unix::net::UnixStream::connect("/run/dbus/system_bus_socket").map(drop)),
        ("start a program", Command::new("/bin/true").spawn().map(drop)),
    ];
    if files == RulesetStatus::NotEnforced {
        writeln_stdout("not tested: read another file (this kernel has no landlock)");
    } else {
        attempts.push(("read another file", std::fs::read("/etc/passwd").map(drop)));
    }
    let mut allowed = Vec::new();
    for (what, outcome) in attempts {
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => writeln_stdout(&format!("denied: {what}")),
            other => allowed.push(format!("{what} ({other:?})")),
        }
    }
    for (model, what) in models(args).zip(["model", "draft model"]) {
        std::fs::File::open(model).with_context(|| format!("the {what} itself cannot be read"))?;
        writeln_stdout(&format!("allowed: read the {what}"));
    }
    if allowed.is_empty() { Ok(()) } else { bail!("not denied: {}", allowed.join(", ")) }
}

fn writeln_stdout(line: &str) {
    use io::Write;
    let _ = writeln!(io::stdout(), "{line}");
}

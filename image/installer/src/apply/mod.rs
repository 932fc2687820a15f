//! Carries a plan out. Whatever it is interrupted by, the disk starts nothing until all of it is there: the boot partition
//! is emptied first, and the boot loader comes last.

mod blocks;
mod models;
mod mounted;
mod source;

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use rustix::fs::syncfs;

use crate::plan::Plan;
use crate::progress::Progress;
use crate::table::{ESP_NUMBER, STATE_NAME, STATE_NUMBER, USR_NUMBER, VERITY_NUMBER};
use crate::tool;
use mounted::Mounted;
pub(crate) use source::Source;

/// The target's `/usr` while it is checked.
const MAPPED: &str = "allerac-install-target";
const VERITYSETUP: &str = "/usr/lib/systemd/systemd-veritysetup";
/// Where a box's models lie on its state partition.
const MODELS: &str = "var/lib/allerac/models";

/// Installs.
///
/// # Errors
/// A program or a disk failed, or what was read back is not what was written. The disk starts nothing then.
pub(crate) fn apply<W: Write>(plan: &Plan, source: &Source, progress: &mut Progress<W>) -> anyhow::Result<()> {
    divide(plan, progress)?;
    copy_system(plan, source, progress)?;
    if !plan.keeps_state {
        make_state(plan, source, progress)?;
    }
    make_bootable(plan, source, progress)
}

/// Puts away what an earlier try of this boot left in use.
fn let_go() {
    // Usually there is nothing to put away.
    let _ = tool::run(VERITYSETUP, &["detach", MAPPED]);
}

fn divide<W: Write>(plan: &Plan, progress: &mut Progress<W>) -> anyhow::Result<()> {
    let_go();
    let script = plan.table.script();
    if plan.keeps_state {
        progress.step("Making room for the new version; keys, people and models stay");
        // First of all: what is half replaced must not start.
        format_boot(plan)?;
        let arguments = ["--quiet", "--lock", "--wipe", "never", "--wipe-partitions", "never", &plan.path];
        tool::run_with_input("sfdisk", &arguments, &script)?;
        return settle(plan);
    }
    progress.step("Erasing the disk and dividing it");
    // Not every disk can forget on demand.
    let _ = tool::run("blkdiscard", &["--force", &plan.path]);
    tool::run("wipefs", &["--all", "--force", "--quiet", &plan.path])?;
    let arguments = ["--quiet", "--lock", "--wipe", "always", "--wipe-partitions", "always", &plan.path];
    tool::run_with_input("sfdisk", &arguments, &script)?;
    settle(plan)?;
    format_boot(plan)
}

fn format_boot(plan: &Plan) -> anyhow::Result<()> {
    tool::run("mkfs.vfat", &["-F", "32", "-n", "ESP", &plan.node(ESP_NUMBER)]).map(drop)
}

/// Waits until the kernel and udev know the new partitions.
fn settle(plan: &Plan) -> anyhow::Result<()> {
    tool::run("udevadm", &["trigger", "--settle", &plan.path])?;
    for number in [ESP_NUMBER, VERITY_NUMBER, USR_NUMBER, STATE_NUMBER] {
        tool::run("udevadm", &["wait", "--timeout=30", "--initialized=true", &plan.node(number)])?;
    }
    Ok(())
}

/// `/usr` and its hashes; then every block of it as the kernel will read it, against the hash that runs.
fn copy_system<W: Write>(plan: &Plan, source: &Source, progress: &mut Progress<W>) -> anyhow::Result<()> {
    let (usr, verity) = (plan.node(USR_NUMBER), plan.node(VERITY_NUMBER));
    progress.step("Copying the system");
    blocks::copy(&source.verity, Path::new(&verity), |_, _| {})?;
    blocks::copy(&source.usr, Path::new(&usr), |done, all| progress.reached(done, all))?;
    progress.step("Reading it back");
    tool::run(VERITYSETUP, &["attach", MAPPED, &usr, &verity, source.facts.root_hash.as_str()])?;
    let read = blocks::read(&Path::new("/dev/mapper").join(MAPPED), |done, all| progress.reached(done, all));
    let_go();
    read.context("what was written is not what the stick should hold; the disk or the stick is damaged")
}

fn make_state<W: Write>(plan: &Plan, source: &Source, progress: &mut Progress<W>) -> anyhow::Result<()> {
    let node = plan.node(STATE_NUMBER);
    progress.step("Copying the models");
    tool::run("mkfs.ext4", &["-q", "-F", "-m", "0", "-L", STATE_NAME, &node])?;
    let state = Mounted::new("ext4", &node, "rw,nosuid,nodev")?;
    let all = source.facts.models_bytes;
    let copied = models::copy(&source.models, &state.path().join(MODELS), |done| progress.reached(done, all))?;
    syncfs(&std::fs::File::open(state.path())?)?;
    state.end()?;
    // Mounted anew, they come from the disk and not from memory.
    let state = Mounted::new("ext4", &node, "ro,nosuid,nodev")?;
    models::verify(&copied, &state.path().join(MODELS))?;
    state.end()?;
    tool::run("sfdisk", &["--quiet", "--lock", "--part-label", &plan.path, &STATE_NUMBER.to_string(), STATE_NAME])?;
    settle(plan)
}

/// The kernel's file, checked; then the boot loader that starts it.
fn make_bootable<W: Write>(plan: &Plan, source: &Source, progress: &mut Progress<W>) -> anyhow::Result<()> {
    progress.step("Making it start");
    let node = plan.node(ESP_NUMBER);
    let boot = Mounted::new("vfat", &node, "rw,nosuid,nodev,umask=0077")?;
    let kernel = format!("EFI/Linux/allerac_{}.efi", source.facts.version);
    let mut written = Vec::new();
    for (from, to) in [(&source.kernel, kernel.as_str()), (&source.loader, "loader/loader.conf")] {
        written.push((to.to_owned(), blocks::copy_file(from, &boot.path().join(to))?));
    }
    syncfs(&std::fs::File::open(boot.path())?)?;
    boot.end()?;
    let boot = Mounted::new("vfat", &node, "rw,nosuid,nodev,umask=0077")?;
    for (name, hash) in &written {
        blocks::check_file(&boot.path().join(name), hash)?;
    }
    let path = boot.path().to_str().context("the path of a mount is text")?;
    let esp = format!("--esp-path={path}");
    // Not every firmware keeps entries; it then starts what lies where removable disks have it, which is there too.
    if let Err(error) = tool::run("bootctl", &[&esp, "--random-seed=no", "install"]) {
        eprintln!("note: {error:#}; trying without an entry in the firmware");
        tool::run("bootctl", &[&esp, "--random-seed=no", "--no-variables", "install"])?;
    }
    syncfs(&std::fs::File::open(boot.path())?)?;
    boot.end()
}

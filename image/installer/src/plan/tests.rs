use proptest::prelude::*;

use super::*;
use crate::table::{EMPTY_NAME, STATE_NAME};

const GIB: u64 = 1 << 30;

fn facts() -> Facts {
    let root_hash = RootHash::from_command_line(&format!("usrhash={}", "ab".repeat(32))).unwrap();
    Facts {
        version: "0.1.0.7".to_owned(),
        root_hash,
        usr_bytes: USR_BYTES,
        verity_bytes: VERITY_BYTES,
        models_bytes: 100 * MIB,
    }
}

fn disk(serial: &str, content: Content) -> Disk {
    Disk {
        path: format!("/dev/{}", serial.to_lowercase()),
        serial: Some(serial.to_owned()),
        model: "Disk".to_owned(),
        size_bytes: 64 * GIB,
        sector_bytes: 512,
        barred: None,
        content,
    }
}

fn installed(version: &str, has_state: bool) -> Content {
    let mut table = Table::new(64 * GIB, 512, if has_state { STATE_NAME } else { UNFINISHED_NAME });
    table.name_slots(version, &facts().root_hash);
    table.partitions[5].uuid = Some("0f0f0f0f-0000-4000-8000-000000000001".to_owned());
    Content::Box(Installed { table, versions: vec![version.to_owned()], has_state })
}

fn foreign() -> Content {
    Content::Foreign(vec!["ntfs \"Windows\"".to_owned()])
}

fn ask(disks: &[Disk], serial: &str, treatment: Treatment) -> Result<Plan, Refusal> {
    plan(disks, &Request { serial: serial.to_owned(), treatment }, &facts())
}

#[test]
fn an_empty_disk_is_divided_for_two_versions() {
    let disks = [disk("A1", Content::Empty), disk("B2", foreign())];
    let plan = ask(&disks, "a1", Treatment::Empty).unwrap();
    assert_eq!((plan.path.as_str(), plan.keeps_state), ("/dev/a1", false));
    let names: Vec<&str> = plan.table.partitions.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["esp", "allerac_0.1.0.7_verity", "allerac_0.1.0.7", EMPTY_NAME, EMPTY_NAME, UNFINISHED_NAME]);
    assert_eq!((plan.node(3).as_str(), plan.table.partitions[2].size), ("/dev/a1p3", 2_097_152));
    assert_eq!(Plan { path: "/dev/sda".to_owned(), ..plan }.node(6), "/dev/sda6");
}

#[test]
fn a_disk_is_named_by_its_serial_number_alone() {
    let disks = [disk("A1", Content::Empty), disk("B2", Content::Empty), disk("B2", Content::Empty)];
    let unknown = Refusal::Unknown { serial: "C3".to_owned(), known: "A1, B2, B2".to_owned() };
    assert_eq!(ask(&disks, "C3", Treatment::Replace), Err(unknown));
    assert_eq!(ask(&disks, "b2", Treatment::Replace), Err(Refusal::Ambiguous("b2".to_owned())));
    assert!(matches!(ask(&disks, "/dev/a1", Treatment::Replace), Err(Refusal::Unknown { .. })));
    assert!(matches!(ask(&disks, "", Treatment::Replace), Err(Refusal::Unknown { .. })));
}

#[test]
fn what_is_barred_stays_barred_whatever_is_said() {
    for why in [Barred::RunsFromIt, Barred::InUse, Barred::Removable, Barred::ReadOnly, Barred::Sectors] {
        let barred = Disk { barred: Some(why), ..disk("A1", Content::Unread) };
        for treatment in [Treatment::Empty, Treatment::Replace, Treatment::Preserve] {
            let refusal = Refusal::Barred { path: "/dev/a1".to_owned(), why };
            assert_eq!(ask(std::slice::from_ref(&barred), "A1", treatment), Err(refusal));
        }
    }
}

#[test]
fn data_of_others_go_only_where_that_was_said() {
    let disks = [disk("A1", foreign())];
    let refused = ask(&disks, "A1", Treatment::Empty).unwrap_err().to_string();
    assert!(refused.starts_with("/dev/a1 holds ntfs \"Windows\"; say that it may be replaced"), "{refused}");
    assert!(matches!(ask(&disks, "A1", Treatment::Preserve), Err(Refusal::NothingToKeep { .. })));
    assert!(!ask(&disks, "A1", Treatment::Replace).unwrap().keeps_state);
}

#[test]
fn a_box_is_kept_or_erased_but_never_by_silence() {
    let disks = [disk("A1", installed("0.1.0.6", true))];
    assert!(matches!(ask(&disks, "A1", Treatment::Empty), Err(Refusal::Undecided { .. })));
    let erased = ask(&disks, "A1", Treatment::Replace).unwrap();
    assert_eq!((erased.keeps_state, erased.table.partitions[5].uuid.as_deref()), (false, None));
    let kept = ask(&disks, "A1", Treatment::Preserve).unwrap();
    let Content::Box(before) = &disks[0].content else { panic!("it is a box") };
    assert!(kept.keeps_state);
    assert_eq!(kept.table.partitions[5], before.table.partitions[5]);
    assert_eq!(kept.table.partitions[2].name, "allerac_0.1.0.7");
}

#[test]
fn an_unfinished_installation_may_be_begun_again() {
    let disks = [disk("A1", installed("0.1.0.7", false))];
    for treatment in [Treatment::Empty, Treatment::Replace, Treatment::Preserve] {
        assert!(!ask(&disks, "A1", treatment).unwrap().keeps_state, "{treatment:?}");
    }
}

#[test]
fn what_a_newer_version_remembers_is_not_given_to_an_older_one() {
    for (version, is_kept) in [("0.1.0.7", true), ("0.0.9.9", true), ("0.1.0.10", false), ("1.0", false)] {
        let kept = ask(&[disk("A1", installed(version, true))], "A1", Treatment::Preserve);
        assert_eq!(kept.is_ok(), is_kept, "{version}: {kept:?}");
    }
    assert!(ask(&[disk("A1", installed("9.0", true))], "A1", Treatment::Replace).is_ok());
}

#[test]
fn what_does_not_fit_is_refused_with_the_sizes() {
    let small = Disk { size_bytes: 4 * GIB, ..disk("A1", Content::Empty) };
    let refusal = Refusal::TooSmall { path: "/dev/a1".to_owned(), has_mib: 4096, needs_mib: 4838 };
    assert_eq!(ask(&[small], "A1", Treatment::Empty), Err(refusal));
    let large = Facts { usr_bytes: USR_BYTES + 1, ..facts() };
    let request = Request { serial: "A1".to_owned(), treatment: Treatment::Empty };
    assert_eq!(plan(&[disk("A1", Content::Empty)], &request, &large), Err(Refusal::SystemTooLarge));
    let Content::Box(mut narrow) = installed("0.1.0.6", true) else { panic!("it is a box") };
    narrow.table.partitions[2].size /= 2;
    let kept = ask(&[disk("A1", Content::Box(narrow))], "A1", Treatment::Preserve);
    assert_eq!(kept, Err(Refusal::OtherLayout { path: "/dev/a1".to_owned() }));
}

fn contents() -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::Empty),
        Just(foreign()),
        any::<bool>().prop_map(|has_state| installed("0.1.0.6", has_state)),
        Just(Content::Unread),
    ]
}

fn any_disk() -> impl Strategy<Value = Disk> {
    let barred = prop::option::of(prop::sample::select(vec![Barred::RunsFromIt, Barred::InUse, Barred::Removable]));
    let sector = prop::sample::select(vec![512_u64, 4096]);
    ("[AB][12]", contents(), 0..200 * GIB, sector, barred).prop_map(
        |(serial, content, size_bytes, sector_bytes, barred)| Disk {
            size_bytes: size_bytes / sector_bytes * sector_bytes,
            sector_bytes,
            barred,
            ..disk(&serial, content)
        },
    )
}

proptest! {
    /// Whatever the disks are and whatever is asked: only the disk that was named is written, never a barred one, and
    /// never what is somebody's unless that was said.
    #[test]
    fn nothing_is_lost_that_was_not_named(
        disks in prop::collection::vec(any_disk(), 0..4),
        serial in "[AB][12]",
        treatment in prop::sample::select(vec![Treatment::Empty, Treatment::Replace, Treatment::Preserve]),
    ) {
        let Ok(plan) = ask(&disks, &serial, treatment) else { return Ok(()) };
        let named: Vec<&Disk> = disks.iter().filter(|disk| disk.serial.as_deref() == Some(&serial)).collect();
        prop_assert_eq!(named.len(), 1);
        let disk = named[0];
        prop_assert_eq!(&plan.path, &disk.path);
        prop_assert_eq!(disk.barred, None);
        match &disk.content {
            Content::Empty => prop_assert!(!plan.keeps_state),
            Content::Foreign(_) => prop_assert_eq!(treatment, Treatment::Replace),
            Content::Box(installed) if installed.has_state => {
                prop_assert_ne!(treatment, Treatment::Empty);
                prop_assert_eq!(plan.keeps_state, treatment == Treatment::Preserve);
            }
            Content::Box(_) => prop_assert!(!plan.keeps_state),
            Content::Unread => prop_assert!(false, "a disk that nobody looked at"),
        }
    }

    /// Partitions follow each other, begin at whole mebibytes, and leave room for the table's copy at the end.
    #[test]
    fn partitions_lie_apart_and_on_the_disk(size in (8 * GIB)..(200 * GIB), sector_bytes in prop::sample::select(vec![512_u64, 4096])) {
        let size_bytes = size / sector_bytes * sector_bytes;
        let disk = Disk { size_bytes, sector_bytes, ..disk("A1", Content::Empty) };
        let plan = ask(&[disk], "A1", Treatment::Empty).unwrap();
        let mut end = 0;
        for part in &plan.table.partitions {
            prop_assert!(part.start >= end && part.size > 0);
            prop_assert_eq!(part.start * sector_bytes % MIB, 0);
            end = part.start + part.size;
        }
        prop_assert!(end * sector_bytes + MARGIN_BYTES <= size_bytes);
        prop_assert!(plan.table.partitions[5].size * sector_bytes >= STATE_BYTES_MIN);
    }
}

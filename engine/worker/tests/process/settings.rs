//! What settings make of the process: numbers of KV, processors, and how fast it says it is.

use std::process::{Command, Stdio};

use allerac_engine_core::TokenId;
use allerac_engine_link::protocol::{FromEngine, PromptInput, ToEngine};
use allerac_hardware::CpuSet;
use allerac_hardware::tuning::{Phase, Report};

use crate::support::{Worker, greedy, model};

#[test]
fn what_is_known_in_other_numbers_is_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kv");
    let cached = |more: &[&str]| {
        let more = [&["--kv-file", file.to_str().unwrap()], more].concat();
        let (mut worker, _) = Worker::start_with(&model(), &more).until_ready();
        let prompt = worker.prepare(PromptInput::Text("The cat sat on the mat and the dog ran. ".repeat(12))).unwrap();
        let length = u32::try_from(prompt.len()).unwrap();
        worker.send(&greedy(7, prompt, 4));
        let answer = worker.collect(1).remove(&7).unwrap();
        worker.send(&ToEngine::Shutdown);
        assert!(worker.child.wait().unwrap().success());
        (answer.usage.cached_tokens, length)
    };
    let quantised = ["--kv-type-k", "q8_0"];
    assert_eq!(cached(&[]).0, 0);
    assert_eq!(cached(&quantised).0, 0, "keys of 16 bits are no keys of 8");
    let (again, length) = cached(&quantised);
    assert_eq!(again, length);
    assert_eq!(cached(&[]).0, 0);
}

#[test]
fn all_threads_run_on_the_given_processors() {
    let allowed = |worker: &Worker| -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", worker.child.id())).unwrap();
        let status = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap());
        let list =
            |text: &str| text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().to_owned();
        status.map(|text| list(&text).trim().to_owned()).collect()
    };
    let mine = CpuSet::allowed().unwrap();
    let one: CpuSet = mine.iter().take(1).collect();
    for (flag, expected) in [(one.to_string(), one.to_string()), ("1023".to_owned(), mine.to_string())] {
        let (mut worker, _) = Worker::start_with(&model(), &["--cpus", &flag]).until_ready();
        // The threads that compute are started by the first computation.
        worker.send(&greedy(1, vec![TokenId(1)], 2));
        worker.collect(1);
        let lists = allowed(&worker);
        assert!(lists.len() >= 4 && lists.iter().all(|list| *list == expected), "{flag}: {lists:?}");
    }
}

#[test]
fn speeds_are_printed_a_line_each_and_the_last_line_says_that_it_is_the_last() {
    let measure = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_allerac-engine"));
        command.args(["--measure", "quick", "--threads", "1", "--context", "600", "--sequences", "2"]);
        command.args(["--cells", "1200", "--model"]).arg(model()).args(more).stdin(Stdio::null());
        let output = command.output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let reports = lines.lines().map(|line| serde_json::from_str(line).unwrap());
        (output.status.success(), reports.collect::<Vec<Report>>())
    };
    let (is_success, reports) = measure(&[]);
    assert!(is_success);
    let measured = reports.iter().filter_map(|report| match report {
        Report::Measured(speed) => Some((speed.part.phase, speed.part.depth, speed.part.sequences)),
        Report::Sampled { .. } | Report::Skipped { .. } | Report::Done { .. } => None,
    });
    let expected = [(Phase::Prefill, 0, 1), (Phase::Decode, 0, 1), (Phase::Decode, 0, 2)];
    assert_eq!(measured.collect::<Vec<_>>(), expected);
    assert!(matches!(reports[3], Report::Skipped { depth: 1024, .. }), "{reports:?}");
    assert!(matches!(&reports[4], Report::Done { cpu_seconds, .. } if *cpu_seconds > 0.0), "{reports:?}");
    // What would be measured elsewhere than asked is not measured.
    assert_eq!(measure(&["--cpus", "1023"]), (false, Vec::new()));
}

#[test]
fn a_workload_is_measured_as_it_is_written() {
    let workload = r#"{"prompt":32,"answer":4,"depths":[0,64],"repeats":2}"#;
    let mut command = Command::new(env!("CARGO_BIN_EXE_allerac-engine"));
    command.args(["--threads", "1", "--context", "96", "--sequences", "1", "--cells", "96", "--workload", workload]);
    let output = command.arg("--model").arg(model()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut reports: Vec<Report> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(matches!(reports.pop(), Some(Report::Done { .. })), "{lines}");
    let sampled = reports.iter().map(|report| match report {
        Report::Sampled { phase, depth, tokens, samples } => {
            assert!(samples.iter().all(|speed| *speed > 0.0), "{samples:?}");
            (*phase, *depth, *tokens, samples.len())
        }
        other => panic!("{other:?}"),
    });
    let expected =
        [(Phase::Prefill, 0, 32, 2), (Phase::Decode, 0, 4, 2), (Phase::Prefill, 64, 32, 2), (Phase::Decode, 64, 4, 2)];
    assert_eq!(sampled.collect::<Vec<_>>(), expected);
}

#[test]
fn a_combination_that_cannot_be_is_a_failure_with_its_reason() {
    let mut worker = Worker::start_with(&model(), &["--kv-type-v", "q8_0"]);
    let message = loop {
        match worker.receive() {
            Some(FromEngine::Loading(_)) => {}
            Some(FromEngine::LoadFailed(message)) => break message,
            other => panic!("{other:?}"),
        }
    };
    assert!(message.contains("values of type q8_0 need flash attention"), "{message}");
    assert_eq!(worker.child.wait().unwrap().code(), Some(1));
}

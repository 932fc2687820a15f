//! `allerac tune` with an engine that only claims speeds, and what becomes of its file.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use allerac_hardware::tuning::{Choice, Tuning};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{DEADLINE, Home, Ran};

/// The version of the engine and of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Tells a pipe what it was started with, then waits for what never comes. `doctor` gets no answer from it.
const WAITS: &str =
    "case \"$*\" in --system-info*|--self-test*) exit 1 ;; esac; echo \"$* \" > \"${0%/*}/started\"; exec sleep 60";

/// Claims speeds: one thread is a third faster than several, twice that without flash attention, and half as much again
/// with batches of 256. Quantised keys do not work.
fn claims() -> String {
    format!(
        r#"
case "$*" in *"--threads 1 "*) speed=133 ;; *) speed=100 ;; esac
case "$*" in *"--flash-attention off"*) speed=$((speed * 2)) ;; esac
case "$*" in *"--batch 256 "*) speed=$((speed * 3 / 2)) ;; esac
case "$*" in *"--kv-type-k q8_0"*) echo "no such keys" >&2; exit 1 ;; esac
for depth in 0 1024; do
    for part in '"prefill","sequences":1' '"decode","sequences":1' '"decode","sequences":8'; do
        echo "{{\"measured\":{{\"phase\":$part,\"depth\":$depth,\"tokens_per_second\":$speed,\"uncertainty\":0.0}}}}"
    done
done
echo '{{"skipped":{{"depth":3072,"reason":"it takes too long"}}}}'
echo '{{"done":{{"version":"{VERSION}","cpu_seconds":0.1}}}}'
"#
    )
}

impl Home {
    /// A configuration whose engine is this shell script. It leaves its arguments in the file `args`.
    fn engine_script(&self, script: &str, more: &str) -> String {
        let folder = self.folder.path();
        let (path, args) = (folder.join("engine"), folder.join("args"));
        if script == WAITS && !folder.join("started").exists() {
            assert!(Command::new("mkfifo").arg(folder.join("started")).status().unwrap().success());
        }
        fs::write(&path, format!("#!/bin/sh\necho \"$* \" >> {}\n{script}", args.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.config(&format!("[mdns]\nenabled = false\n[engine]\nbinary = \"{}\"\n{more}", path.display()))
    }

    /// The arguments that the engine was started with, one line a start.
    fn engine_args(&self) -> Vec<String> {
        fs::read_to_string(self.folder.path().join("args")).unwrap().lines().map(str::to_owned).collect()
    }

    /// Waits until an engine that [waits](WAITS) was started; its arguments.
    fn engine_started(&self) -> String {
        let pipe = self.folder.path().join("started");
        let (said, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || said.send(fs::read_to_string(pipe).unwrap()));
        heard.recv_timeout(DEADLINE).expect("no engine was started")
    }

    fn tuned(&self) -> std::path::PathBuf {
        self.data_dir().join("tuned.toml")
    }

    /// What a server starts its engine with, and what it and `doctor` say of the tuning.
    fn serve_tuned(&self, config: &str) -> (String, String, serde_json::Value) {
        let log = self.folder.path().join("log");
        let file = fs::File::create(&log).unwrap();
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0", "--config", config]);
        let mut server = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let args = self.engine_started();
        server.kill().unwrap();
        server.wait().unwrap();
        let report = self.run(&["doctor", "--json", "--config", config, "--listen", "127.0.0.1:0"]).stdout;
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "tuning").unwrap();
        (args, fs::read_to_string(log).unwrap(), check.clone())
    }
}

/// A file that is good for this machine.
fn file() -> String {
    let toml = "threads = 1\nthreads_batch = 3\ncpus = \"0\"\nflash_attention = \"off\"\nkv_type_k = \"q8_0\"\nkv_type_v = \"f16\"\nbatch = 256\n";
    let choice: Choice = toml::from_str(toml).unwrap();
    Tuning::new(&allerac_hardware::probe(), VERSION, choice).render()
}

#[test]
fn what_is_fastest_is_kept_and_shown() {
    let home = Home::new();
    home.install_test_model();
    let config = home.engine_script(&claims(), "");
    let ran = home.run(&["tune", "--quick", "--busy", "--config", &config]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let chosen =
        "chosen: 1 thread, flash attention off, K f16, V f16, batch 512\na turn of a conversation is computed ";
    assert!(ran.stdout.contains(chosen), "{}", ran.stdout);
    assert!(ran.stdout.contains("no such keys"), "{}", ran.stdout);
    assert!(ran.stderr.contains("not measured after 3072 tokens: it takes too long"), "{}", ran.stderr);
    let runs = home.engine_args();
    let starts = |part: &str| runs.iter().filter(|args| args.contains(part)).count();
    assert!(runs.iter().all(|args| args.starts_with("--measure quick --model ")), "{runs:?}");
    assert_eq!((starts("--flash-attention off"), starts("--kv-type-v q8_0")), (2, 1), "{runs:?}");
    assert_eq!(starts("--batch 512 "), runs.len(), "quick prompts are too short for others: {runs:?}");

    let tuning = Tuning::parse(&fs::read_to_string(home.tuned()).unwrap()).unwrap();
    assert_eq!((tuning.model.as_str(), tuning.quick, tuning.engine.threads), ("smollm2-135m-instruct", true, 1));
    assert!(tuning.bandwidth.iter().all(|one| one.gigabytes_per_second > 0.0) && !tuning.bandwidth.is_empty());
    let speeds: Vec<f64> = tuning.trials[0].measured.iter().map(|one| one.tokens_per_second).collect();
    // On a machine with a single core what is used now is one thread.
    let present = if tuning.trials[0].engine.threads == 1 { 133.0 } else { 100.0 };
    assert_eq!(speeds, [present; 6]);
    let shown = home.run(&["tune", "--show"]);
    assert!(ran.stdout.starts_with(&shown.stdout), "{}", shown.stdout);
    assert!(shown.stdout.contains("266 / 266"), "{}", shown.stdout);
    assert_eq!(home.json(&["tune", "--show", "--json"])["engine"]["flash_attention"], "off");
    assert_eq!(home.run(&["tune", "--show", "--quick"]).code, 2);
}

#[test]
fn what_is_configured_is_not_tried_otherwise() {
    let home = Home::new();
    home.install_test_model();
    let config = home.engine_script(&claims(), "threads = 2\nkv_type_k = \"f16\"\n");
    let ran = home.run(&["tune", "--busy", "--config", &config]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for what in ["threads or processors", "attention or KV types"] {
        assert!(ran.stderr.contains(&format!("the configuration file has its own {what}, so others are not tried")));
    }
    let chosen = "chosen: 2 threads, flash attention auto, K f16, V f16, batch 256\n\
        a turn of a conversation is computed 50 % faster with it than as without tuning (the first line)\n";
    assert!(ran.stdout.contains(chosen), "{}", ran.stdout);
    let runs = home.engine_args();
    assert!(runs.iter().all(|args| args.starts_with("--measure full ") && args.contains(" --threads 2 ")), "{runs:?}");
    // Two rounds of what is used now, then two of it beside two others.
    assert_eq!(runs.len(), 2 + 3 * 2, "{runs:?}");
    let config = home.engine_script(&claims(), "threads = 2\nkv_type_k = \"f16\"\nbatch = 512\n");
    let ran = home.run(&["tune", "--busy", "--config", &config]);
    assert!(ran.stdout.contains("\nas without tuning: nothing else was faster by more than the noise\n"), "{ran:?}");
    assert_eq!(home.engine_args().len(), runs.len() + 2);
}

#[test]
fn nothing_is_kept_of_what_did_not_end_well() {
    let home = Home::new();
    let config = home.engine_script("echo 'ERROR out of memory' >&2; exit 1", "");
    home.run(&["tune", "--show"]).refused(3, "this machine was not tuned yet", "allerac tune");
    home.run(&["tune", "--config", &config]).refused(3, "no model is installed", "allerac models pull");
    home.install_test_model();
    home.run(&["tune", "--config", &config, "--model", "x"]).refused(3, "the model x is not installed", "models list");
    home.run(&["tune", "--config", &config]).refused(1, "present settings: ERROR out of memory", "allerac doctor");
    let cut = home.engine_script("exit 0", "");
    home.run(&["tune", "--quick", "--config", &cut]).refused(1, "present settings: it ended with exit status: 0", "");
    let nothing = format!("echo '{{\"done\":{{\"version\":\"{VERSION}\",\"cpu_seconds\":0.1}}}}'");
    let nothing = home.engine_script(&nothing, "");
    home.run(&["tune", "--quick", "--config", &nothing]).refused(1, "nothing could be measured", "set context in");
    let zero = home.engine_script(&claims().replace("$speed,", "0,"), "");
    home.run(&["tune", "--quick", "--config", &zero]).refused(1, "present settings: it said nonsense: {", "");
    let other = claims().replace(VERSION, "9.9.9");
    let other = home.engine_script(&other, "");
    home.run(&["tune", "--quick", "--config", &other]).refused(1, "the engine is of version 9.9.9", "");
    assert!(!home.tuned().exists());
}

#[test]
fn a_server_and_a_measurement_do_not_disturb_each_other() {
    let home = Home::new();
    home.install_test_model();
    let config = home.engine_script(WAITS, "");
    let _server = home.serve(&["--config", &config]);
    let ran = home.run(&["tune", "--quick", "--config", &config]);
    ran.refused(4, "a server uses", "stop the server, measure, and start it again");
}

#[test]
fn an_interruption_changes_nothing() {
    for signal in [Signal::INT, Signal::TERM] {
        let home = Home::new();
        home.install_test_model();
        let config = home.engine_script(WAITS, "");
        let mut command = home.command(&["tune", "--quick", "--config", &config]);
        let mut tune = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        home.engine_started();
        let before = fs::read_dir(home.data_dir()).unwrap().count();
        kill_process(Pid::from_child(&tune), signal).unwrap();
        let mut said = BufReader::new(tune.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(
            said.any(|line| line.starts_with("error: interrupted by SIG") && line.ends_with("nothing was changed"))
        );
        assert_eq!(tune.wait().unwrap().code(), Some(1));
        assert_eq!(fs::read_dir(home.data_dir()).unwrap().count(), before);
        assert!(!home.tuned().exists());
    }
}

#[test]
fn a_server_runs_as_was_measured_but_for_what_is_configured() {
    let home = Home::new();
    home.install_test_model();
    fs::write(home.tuned(), file()).unwrap();
    let threads = "--threads 1 --threads-batch 3 ";
    let attention = "--flash-attention off --kv-type-k q8_0 --kv-type-v f16 ";
    let (args, log, check) = home.serve_tuned(&home.engine_script(WAITS, ""));
    assert!(args.contains(threads) && args.contains("--cpus 0 ") && args.contains(attention), "{args}");
    assert!(args.contains("--batch 256 "), "{args}");
    assert!(log.contains("tuned") && !log.contains("not used"), "{log}");
    assert_eq!(check["status"], "ok");
    let (args, _, check) = home.serve_tuned(&home.engine_script(WAITS, "threads_batch = 7\n"));
    assert!(args.contains("--threads-batch 7 ") && !args.contains("--cpus") && args.contains(attention), "{args}");
    assert!(check["detail"].as_str().unwrap().contains("has its own threads or processors"), "{check}");
    let (args, ..) = home.serve_tuned(&home.engine_script(WAITS, "kv_type_v = \"q8_0\"\n"));
    let plain = "--flash-attention auto --kv-type-k f16 --kv-type-v q8_0 ";
    assert!(args.contains(threads) && args.contains("--cpus 0 ") && args.contains(plain), "{args}");
}

#[test]
fn a_file_that_does_not_hold_is_said_once_and_ignored() {
    let home = Home::new();
    home.install_test_model();
    let config = home.engine_script(WAITS, "");
    let cpu = format!("cpu_model = {}", json!(allerac_hardware::probe().cpu_model));
    for (from, to, said) in [
        (cpu.as_str(), "cpu_model = \"Z80\"", "it was measured on Z80"),
        (&format!("engine_version = \"{VERSION}\""), "engine_version = \"0.0.1\"", "with version 0.0.1"),
        ("version = 1", "version = 2", "it is of version 2"),
        ("threads = 1", "threads = 4000000000", "`threads` in [engine] is 4000000000"),
        ("cpus = \"0\"", "cpus = \"1022\"", "it chose the processors 1022, and this machine has "),
        ("[engine]", "[engine]\nqueue = 5", "unknown field `queue`"),
    ] {
        assert!(file().contains(from), "{from}");
        fs::write(home.tuned(), file().replacen(from, to, 1)).unwrap();
        let (args, log, check) = home.serve_tuned(&config);
        assert!(args.contains("--flash-attention auto --kv-type-k f16 ") && !args.contains("--cpus"), "{args}");
        assert_eq!(log.matches("tuned.toml is not used: ").count(), 1, "{log}");
        assert!(log.contains(said), "{log}");
        assert_eq!(check["status"], "warning");
        let detail = check["detail"].as_str().unwrap();
        assert!(detail.contains("not used: ") && detail.contains(said), "{detail}");
        assert_eq!(check["hint"], "measure again: allerac tune");
        let Ran { stdout, stderr, .. } = home.run(&["tune", "--show"]);
        assert!((stdout + &stderr).contains(said));
    }
}

//! Vectors of texts, beside onnxruntime on the same weights and threads. Both are given tokens. The product is asked over
//! HTTP, with authentication and metering; of onnxruntime only the computation is counted.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::Args;
use crate::bench::Pair;
use crate::process::Server;

const MODEL: &str = "all-minilm-l6-v2";
/// Before anything is measured each side answers this often.
const WARM_UP: u32 = 3;
/// One measurement is the least of so many answers: another program's turn on a core is no property of either side.
const TRIES: u32 = 5;
/// Tokens that no two of are alike, all of them words.
const FIRST_WORD: u32 = 2000;
const WORDS: u32 = 20_000;

/// What is asked for at once: texts, and the tokens of each in turn.
const LOADS: [(&str, usize, &[usize]); 4] = [
    ("one text of 16 tokens", 1, &[16]),
    ("one text of 128 tokens", 1, &[128]),
    ("32 texts of 64 tokens", 32, &[64]),
    ("32 texts of 8 to 128 tokens", 32, &[8, 128, 24, 48, 16, 96, 32, 64]),
];

pub(crate) fn measure(args: &Args) -> anyhow::Result<Vec<Pair>> {
    let args = Args { models: args.embedding_models.clone(), ..args.clone() };
    let product = Server::allerac(&args, None)?;
    let mut peer = Onnx::start(&args)?;
    let ours = |texts: &[Vec<u32>]| {
        let body = serde_json::json!({"model": MODEL, "input": texts, "encoding_format": "base64"}).to_string();
        let request = product.target.post("/v1/embeddings", &body);
        // The server closes connections that are silent for as long as the peer may take.
        let mut connection = product.target.connect()?;
        let began = Instant::now();
        let (status, body) = connection.exchange(&request)?;
        ensure!(status == 200, "{}", String::from_utf8_lossy(body));
        Ok(began.elapsed().as_secs_f64())
    };
    let mut pairs = Vec::new();
    for (what, count, lengths) in LOADS {
        let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
        for round in 0..WARM_UP + args.rounds {
            let texts = texts(round, count, lengths);
            let (mine, other) = (least(|| ours(&texts))?, least(|| peer.ask(&texts))?);
            if round >= WARM_UP {
                of_ours.push(mine * 1000.0);
                of_theirs.push(other * 1000.0);
            }
        }
        pairs.push(Pair::new(what, "ms", false, of_ours, of_theirs).aims_at(1.0));
    }
    Ok(pairs)
}

fn least(mut ask: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..TRIES {
        least = least.min(ask()?);
    }
    Ok(least)
}

fn texts(round: u32, count: usize, lengths: &[usize]) -> Vec<Vec<u32>> {
    let mut word = round * 7919;
    let mut next = || {
        word = (word + 4099) % WORDS;
        FIRST_WORD + word
    };
    lengths.iter().cycle().take(count).map(|length| (0..*length).map(|_| next()).collect()).collect()
}

/// onnxruntime, in a Python process.
struct Onnx {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Onnx {
    fn start(args: &Args) -> anyhow::Result<Self> {
        let mut command = Command::new(&args.python);
        command.arg(&args.onnx).args(files(&args.models)?).arg(args.threads.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let input = child.stdin.take().context("its input is piped")?;
        let output = BufReader::new(child.stdout.take().context("its output is piped")?);
        let mut this = Self { child, input, output };
        ensure!(!this.line()?.is_empty(), "onnxruntime did not start; are benches/requirements.txt installed?");
        Ok(this)
    }

    /// The seconds that it took.
    fn ask(&mut self, texts: &[Vec<u32>]) -> anyhow::Result<f64> {
        writeln!(self.input, "{}", serde_json::to_string(texts)?)?;
        Ok(self.line()?.trim().parse()?)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Onnx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The weights and the configuration in a store: the largest file, and the one that names layers.
fn files(models: &Path) -> anyhow::Result<[PathBuf; 2]> {
    let blobs = models.join("blobs");
    let missing = || format!("{}; run: make test-model", blobs.display());
    let (mut weights, mut config) = ((0, None), None);
    for entry in std::fs::read_dir(&blobs).with_context(missing)? {
        let path = entry?.path();
        let length = path.metadata()?.len();
        if length < 4096 && std::fs::read_to_string(&path)?.contains("\"num_hidden_layers\"") {
            config = Some(path.clone());
        }
        if length > weights.0 {
            weights = (length, Some(path));
        }
    }
    Ok([weights.1.with_context(missing)?, config.with_context(missing)?])
}

//! The page that is printed and kept.

use std::fmt::Write;
use std::path::Path;

use crate::Args;
use crate::bench::Pair;
use crate::chart;
use crate::machine;
use crate::overhead::Overhead;

/// The text so far, and what is drawn.
pub(crate) struct Report {
    text: String,
    sections: Vec<(String, Vec<Pair>)>,
}

const PEER: &str = "import xllamacpp; print(xllamacpp.__version__, '|', xllamacpp.get_system_info())";

impl Report {
    pub(crate) fn new(args: &Args) -> anyhow::Result<Self> {
        let mut text =
            String::from("# Results\n\nWritten by `make bench`; `benches/src` says how each figure is taken.\n\n");
        let python = args.python.to_string_lossy();
        let peer = machine::first_line(&python, &["-c", PEER]);
        let (version, features) = peer.split_once(" | ").unwrap_or((&peer, "unknown"));
        writeln!(text, "| | |\n|---|---|")?;
        writeln!(text, "| date | {} |", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"))?;
        let threads = args.threads;
        let (cores, memory) = (machine::physical_cores(), machine::memory_gib());
        writeln!(text, "| machine | {}, {cores} cores, {memory} GiB |", machine::cpu())?;
        writeln!(text, "| system | {} |", machine::first_line("uname", &["-srm"]))?;
        let allerac = machine::first_line(&args.allerac.to_string_lossy(), &["--version"]);
        let commit = machine::first_line("git", &["describe", "--always", "--dirty", "--exclude=*"]);
        writeln!(text, "| product | {allerac}, commit {commit}, built for this machine's own instruction set |")?;
        writeln!(text, "| peer | llama.cpp's server from PyPI, xllamacpp {version}; built with {} |", tidy(features))?;
        writeln!(text, "| models | the same files for both; {threads} threads, 8 slots each |")?;
        writeln!(text, "| command | `{}` |\n", command())?;
        Ok(Self { text, sections: Vec::new() })
    }

    /// A table of the product beside something else.
    pub(crate) fn decode(&mut self, what: &str, short: &str, pairs: Vec<Pair>) {
        self.text += &format!(
            "## {what}\n\nMedians of alternating runs, least and greatest in brackets. Ratio above 1: the \
             product is better.\n\n| | product | {short} | ratio | aim |\n|---|---:|---:|---:|---:|\n"
        );
        for pair in &pairs {
            let aim = pair.target.map(|target| format!("{target:.2}")).unwrap_or_default();
            let side = |side: &crate::stats::Sorted| {
                format!("{:.1} ({:.1} to {:.1})", side.median(), side.least(), side.greatest())
            };
            let row = format!("{}, {} | {} | {}", pair.what, pair.unit, side(&pair.ours), side(&pair.theirs));
            self.text += &format!("| {row} | {:.2} | {aim} |\n", pair.ratio());
        }
        self.text.push('\n');
        self.sections.push((what.replace('`', ""), pairs));
    }

    pub(crate) fn overhead(&mut self, overhead: &Overhead) {
        self.text += "## The router alone\n\nRequests at a fixed rate over 64 kept connections, with a stub in place of the \
            engine, authentication and metering on; latency from the moment a request was due. The generator runs on \
            the same machine.\n\n| milliseconds | p50 | p90 | p99 | p99.9 | greatest | sent late, p99 | router, of a core |\n\
            |---|---:|---:|---:|---:|---:|---:|---:|\n";
        for load in &overhead.loads {
            let at = |share| load.latency_ms.quantile(share);
            let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
            let (most, late) = (load.latency_ms.greatest(), load.lateness_ms.quantile(0.99));
            let cpu = load.cpu_share * 100.0;
            self.text += &format!(
                "| {} | {p50:.3} | {p90:.3} | {p99:.3} | {p999:.3} | {most:.1} | {late:.3} | {cpu:.0} % |\n",
                load.what
            );
        }
        let (idle, after) = (mib(overhead.memory_idle_bytes), mib(overhead.memory_after_bytes));
        self.text += &format!(
            "\nMemory of the router: {idle:.1} MiB idle, {after:.1} MiB afterwards. Requests settled in the ledger: {} of \
             {}. A durable write of 4 KiB on that disk: {:.3} ms (p50), {:.3} ms (p99); each request makes two, shared \
             with those that wait at the same time.\n",
            overhead.settled,
            overhead.requests,
            overhead.sync_ms.median(),
            overhead.sync_ms.quantile(0.99)
        );
    }

    /// The page, with the picture at this path, and the picture.
    pub(crate) fn finish(self, chart: Option<&Path>) -> (String, String) {
        let name = chart.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let image = name.map(|name| format!("![Ratios; marks are what is aimed at]({name})\n\n"));
        let (head, rest) = self.text.split_once("## ").unwrap_or((&self.text, ""));
        let page = format!("{head}{}## {rest}", image.unwrap_or_default());
        (page, chart::svg(&self.sections))
    }
}

#[allow(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// `CPU : SSE3 = 1 | AVX = 1 |` as words.
fn tidy(features: &str) -> String {
    let names =
        features.trim_start_matches("CPU :").split('|').filter_map(|feature| feature.trim().strip_suffix(" = 1"));
    names.collect::<Vec<_>>().join(" ")
}

fn command() -> String {
    let mut parts = std::env::args();
    let program = parts.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    std::iter::once(program).chain(parts).collect::<Vec<_>>().join(" ")
}

//! What the router costs a request when the engine costs nothing: requests at a fixed rate, whether the
//! answers come or not, each timed from the moment it was due. So a pause of the server counts for every
//! request that it delays, not for one (Tene, "How not to measure latency").

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Args;
use crate::http::Target;
use crate::process::{Server, pause};
use crate::stats::Sorted;

/// Kept connections: as many requests may be under way, so the rate holds for latencies up to 64 ms at
/// 1,000 a second.
const CONNECTIONS: u32 = 64;
/// Requests before the measurement begins, in seconds of the rate.
const WARM_UP_S: u32 = 3;
/// Writes by which the disk is measured.
const SYNCS: u32 = 200;

/// Latencies at one rate, in milliseconds.
pub(crate) struct Load {
    pub(crate) what: &'static str,
    pub(crate) latency_ms: Sorted,
    /// How late the requests were sent: the generator's own share of the latency.
    pub(crate) lateness_ms: Sorted,
    /// Of one core, by the router.
    pub(crate) cpu_share: f64,
}

/// The router on its own.
pub(crate) struct Overhead {
    pub(crate) loads: Vec<Load>,
    pub(crate) memory_idle_bytes: u64,
    pub(crate) memory_after_bytes: u64,
    /// A durable write of 4 KiB on the disk where the ledger was.
    pub(crate) sync_ms: Sorted,
    pub(crate) requests: u64,
    pub(crate) settled: u64,
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<Overhead> {
    let server = Server::allerac(args, Some(&args.stub))?;
    let memory_idle_bytes = server.memory_bytes()?;
    let body = |stream: bool| {
        let messages = json!([{"role": "user", "content": "Why is the sky blue?"}]);
        json!({"model": args.model, "messages": messages, "max_tokens": 1, "temperature": 0, "stream": stream})
    };
    let chat = |stream| server.target.post("/v1/chat/completions", &body(stream).to_string());
    let loads = [
        ("`GET /healthz` (what HTTP and this generator cost)", server.target.get("/healthz")),
        ("chat completion", chat(false)),
        ("chat completion, streamed", chat(true)),
    ];
    let loads = loads.map(|(what, request)| load(args, &server, what, &request));
    let loads: Vec<Load> = loads.into_iter().collect::<Result<_, _>>()?;
    let usage: Value = serde_json::from_str(&server.cli(&["usage", "--json"])?)?;
    let rows = usage.as_array().map_or(&[][..], Vec::as_slice);
    Ok(Overhead {
        loads,
        memory_idle_bytes,
        memory_after_bytes: server.memory_bytes()?,
        sync_ms: disk(server.folder().context("the product has a folder")?)?,
        requests: 2 * u64::from(args.rate) * u64::from(args.seconds + WARM_UP_S),
        settled: rows.iter().filter_map(|row| row["requests"].as_u64()).sum(),
    })
}

fn load(args: &Args, server: &Server, what: &'static str, request: &[u8]) -> anyhow::Result<Load> {
    at_rate(&server.target, request, args.rate, args.rate * WARM_UP_S)?;
    let (cpu, began) = (server.cpu_time()?, Instant::now());
    let times = at_rate(&server.target, request, args.rate, args.rate * args.seconds)?;
    let cpu_share = (server.cpu_time()? - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    let milliseconds =
        |pick: fn(&Times) -> Duration| Sorted::new(times.iter().map(|times| pick(times).as_secs_f64() * 1e3).collect());
    let load = Load {
        what,
        latency_ms: milliseconds(|times| times.answered),
        lateness_ms: milliseconds(|times| times.sent),
        cpu_share,
    };
    eprintln!("{what}: p50 {:.3} ms, p99 {:.3} ms", load.latency_ms.median(), load.latency_ms.quantile(0.99));
    Ok(load)
}

/// Times of one request since it was due.
struct Times {
    sent: Duration,
    answered: Duration,
}

fn at_rate(target: &Target, request: &[u8], rate: u32, requests: u32) -> anyhow::Result<Vec<Times>> {
    let next = AtomicU32::new(0);
    let interval = Duration::from_secs(1) / rate;
    let begin = Instant::now() + Duration::from_millis(50);
    let client = || -> anyhow::Result<Vec<Times>> {
        let mut connection = target.connect()?;
        let mut times = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= requests {
                return Ok(times);
            }
            let due = begin + interval * index;
            pause(due.saturating_duration_since(Instant::now()));
            let sent = due.elapsed();
            let (status, body) = connection.exchange(request)?;
            let answered = due.elapsed();
            ensure!(status == 200, "status {status}: {}", String::from_utf8_lossy(body));
            times.push(Times { sent, answered });
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        let times = clients.into_iter().map(|client| client.join().expect("a client does not panic"));
        Ok(times.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

/// What one durable write costs there, in place as in the ledger's log; the ledger does two a request, shared
/// by those that wait together.
fn disk(folder: &Path) -> anyhow::Result<Sorted> {
    let file = File::create(folder.join("sync"))?;
    let one = || -> anyhow::Result<f64> {
        let began = Instant::now();
        file.write_all_at(&[0; 4096], 0)?;
        file.sync_data()?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    };
    one()?;
    Ok(Sorted::new((0..SYNCS).map(|_| one()).collect::<Result<_, _>>()?))
}

//! Fetches a file of known length over several connections, and takes up what is there of it.

pub(crate) mod part;
pub(crate) mod retry;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::download::file_error;
use crate::error::ModelsError;
use crate::hub::Hub;
use crate::pace::Pace;
use part::{BLOCK_BYTES, Files, Part, length};
use retry::{Failure, wait};

/// What one request asks for at most, in blocks: a hub counts requests, and a few hundred do for the largest model.
const RUN_BLOCKS_MAX: usize = 256;
/// What is written goes to the disk for good at least this often: no more is lost when something is killed.
const MARK_BLOCKS: usize = 16;
/// The same, on slow lines.
const MARK_EVERY: Duration = Duration::from_secs(2);
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What is fetched, and how.
pub(crate) struct Job<'a> {
    pub(crate) client: &'a Client,
    pub(crate) url: &'a str,
    /// Who asks, and what refusals mean.
    pub(crate) hub: &'a Hub,
    pub(crate) repository: &'a str,
    pub(crate) size_bytes: u64,
    pub(crate) connections: usize,
    pub(crate) pace: &'a Pace,
}

/// Blocks that are asked for at once, and how often that brought nothing.
struct Run {
    blocks: Range<usize>,
    tries: u32,
    after: Duration,
}

/// What became of a run: where it stopped, and why.
struct Ended {
    run: Run,
    at: usize,
    failure: Option<Failure>,
}

/// Fetches what is missing of the file at `path`. It is complete, though not verified, on return. `tell` hears how many
/// bytes are there.
pub(crate) async fn fetch(job: &Job<'_>, path: &Path, tell: &mut impl FnMut(u64)) -> Result<(), ModelsError> {
    let unusable = |source| file_error(source, path, job.size_bytes);
    let mut part = Part::open(path, job.size_bytes).map_err(unusable)?;
    let received = AtomicU64::new(part.done_bytes());
    let missing = part.missing(usize::MAX).iter().map(Range::len).sum::<usize>();
    // A small file is divided among all connections too.
    let share = missing.div_ceil(job.connections.max(1)).clamp(1, RUN_BLOCKS_MAX);
    let mut waiting: Vec<Run> = part.missing(share).into_iter().rev().map(Run::new).collect();
    let mut running = FuturesUnordered::new();
    let mut ticks = interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tell(received.load(Ordering::Relaxed));
    loop {
        while running.len() < job.connections.max(1) {
            let Some(run) = waiting.pop() else { break };
            running.push(fetch_run(job, run, part.files().map_err(unusable)?, &received, path));
        }
        if running.is_empty() {
            tell(part.done_bytes());
            return Ok(());
        }
        tokio::select! {
            Some(ended) = running.next() => {
                let Ended { run, at, failure } = ended;
                part.written(run.blocks.start..at);
                if let Some(failure) = failure {
                    let tries = if at > run.blocks.start { 1 } else { run.tries + 1 };
                    let after = wait(failure, tries)?;
                    waiting.push(Run { blocks: at..run.blocks.end, tries, after });
                }
            }
            _ = ticks.tick() => tell(received.load(Ordering::Relaxed)),
        }
    }
}

impl Run {
    fn new(blocks: Range<usize>) -> Self {
        Self { blocks, tries: 0, after: Duration::ZERO }
    }
}

/// Fetches a run; what came of it in whole blocks is marked, also when the rest did not come.
async fn fetch_run(job: &Job<'_>, run: Run, files: Files, received: &AtomicU64, path: &Path) -> Ended {
    sleep(run.after).await;
    let begins_in = job.pace.begins_in();
    if !begins_in.is_zero() {
        sleep(begins_in).await;
    }
    let mut sink = Sink {
        files: Arc::new(files),
        size_bytes: job.size_bytes,
        marked: run.blocks.start,
        next: run.blocks.start,
        end: run.blocks.end,
        buffer: Vec::new(),
        marked_at: Instant::now(),
    };
    let outcome = receive(job, &mut sink, received, path).await;
    // What is in the buffer is fetched again.
    received.fetch_sub(sink.buffer.len() as u64, Ordering::Relaxed);
    let marked = sink.mark().await.map_err(|source| Failure::Final(file_error(source, path, job.size_bytes)));
    let failure = outcome.and(marked).err();
    Ended { at: sink.marked, run, failure }
}

async fn receive(job: &Job<'_>, sink: &mut Sink, received: &AtomicU64, path: &Path) -> Result<(), Failure> {
    let from = sink.next as u64 * BLOCK_BYTES;
    let until = (sink.end as u64 * BLOCK_BYTES).min(job.size_bytes);
    let mut request = job.client.get(job.url).header(RANGE, format!("bytes={from}-{}", until - 1));
    if let Some(token) = job.hub.token() {
        request = request.bearer_auth(token);
    }
    let mut response = request.send().await?;
    // A server that knows no ranges sends all of it.
    let mut skip = match response.status() {
        StatusCode::PARTIAL_CONTENT => checked(&response, from, job.size_bytes).map(|()| 0)?,
        StatusCode::OK if response.content_length().is_none_or(|length| length == job.size_bytes) => from,
        StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => return Err(changed()),
        _ => return Err(job.hub.refusal(&response, job.repository)),
    };
    while let Some(piece) = response.chunk().await? {
        job.pace.spend(piece.len() as u64).await;
        let skipped = skip.min(piece.len() as u64);
        skip -= skipped;
        #[expect(clippy::cast_possible_truncation, reason = "it is no more than the length of a piece")]
        let mut rest = &piece[skipped as usize..];
        while !rest.is_empty() && sink.next < sink.end {
            let taken = sink.take(rest);
            received.fetch_add(taken as u64, Ordering::Relaxed);
            rest = &rest[taken..];
            sink.settle().await.map_err(|source| Failure::Final(file_error(source, path, job.size_bytes)))?;
        }
        if sink.next == sink.end {
            return Ok(());
        }
    }
    let at = sink.next as u64 * BLOCK_BYTES + sink.buffer.len() as u64;
    Err(Failure::again(format!("the connection broke off at {at} of {} bytes", job.size_bytes)))
}

/// Whether a part is of the file that was asked for.
fn checked(response: &Response, from: u64, size_bytes: u64) -> Result<(), Failure> {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    let fits = range.strip_prefix("bytes ").and_then(|range| range.split_once('/')).is_some_and(|(range, size)| {
        range.starts_with(&format!("{from}-")) && (size == "*" || size.parse() == Ok(size_bytes))
    });
    if fits { Ok(()) } else { Err(changed()) }
}

fn changed() -> Failure {
    Failure::Final(ModelsError::Download("the file at the server is another one than the one that was begun".into()))
}

/// Takes bytes, writes whole blocks, marks them now and then.
struct Sink {
    files: Arc<Files>,
    size_bytes: u64,
    /// Blocks before this one are marked.
    marked: usize,
    /// Blocks before this one are written.
    next: usize,
    end: usize,
    buffer: Vec<u8>,
    marked_at: Instant,
}

impl Sink {
    /// Takes what fits into the block; how much that was.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let room = usize::try_from(length(self.size_bytes, self.next)).unwrap_or(usize::MAX) - self.buffer.len();
        let taken = room.min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Writes the block when it is whole.
    async fn settle(&mut self) -> std::io::Result<()> {
        if (self.buffer.len() as u64) < length(self.size_bytes, self.next) {
            return Ok(());
        }
        let (files, block, bytes) = (Arc::clone(&self.files), self.next, std::mem::take(&mut self.buffer));
        blocking(move || files.write(block, &bytes)).await?;
        self.next += 1;
        if self.next - self.marked >= MARK_BLOCKS || self.marked_at.elapsed() >= MARK_EVERY {
            self.mark().await?;
        }
        Ok(())
    }

    async fn mark(&mut self) -> std::io::Result<()> {
        let (files, blocks) = (Arc::clone(&self.files), self.marked..self.next);
        blocking(move || files.mark(&blocks)).await?;
        (self.marked, self.marked_at) = (self.next, Instant::now());
        Ok(())
    }
}

/// Runs what waits for the disk beside the others.
async fn blocking(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> std::io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

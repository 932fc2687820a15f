//! The step loop: what it is told, and what it does when there is nothing to do.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use allerac_engine_core::event::RefuseReason;
use allerac_engine_core::{Backend, Constraint, Engine, Event, Failure, FinishReason, Generate, Job, RequestId, Usage};
use allerac_engine_grammar::GrammarError;
use allerac_engine_link::protocol::FromEngine;

use crate::report::{REPORT_EVERY, Reporter};
use crate::serve::Outbox;
use crate::work::Teller;

/// Commands taken between two steps, so that a flood of them cannot stop the decoding.
const COMMANDS_PER_STEP_MAX: usize = 64;
/// An engine that had nothing to do for so long copies what it knows to the archive.
const ARCHIVE_AFTER: Duration = Duration::from_secs(2);
/// How long all requests may wait for the archive before it is asked again; it says when it has something.
const STALLED_MAX: Duration = Duration::from_secs(1);

/// What the step loop is told.
pub(crate) enum Command {
    /// A request whose answer may be anything.
    Generate(Box<Generate>),
    /// A request that comes later, once its grammar is compiled.
    Expect(RequestId),
    /// That request.
    Begin {
        request: Box<Generate>,
        constraint: Result<Box<dyn Constraint>, GrammarError>,
    },
    Cancel(RequestId),
    /// Something that a request waits for is here.
    Wake,
}

/// The loop's own state.
pub(crate) struct Steps<B> {
    engine: Engine<B>,
    /// Requests whose grammar is being compiled.
    expected: HashSet<RequestId>,
    events: Vec<Event>,
}

impl<B: Backend> Steps<B> {
    pub(crate) fn new(engine: Engine<B>) -> Self {
        Self { engine, expected: HashSet::new(), events: Vec::new() }
    }

    /// Steps while there is work; archives what it knows while there is none, then sleeps on the command lane. Ends
    /// with the lane, and gives the engine back.
    pub(crate) fn run(mut self, incoming: &Receiver<Command>, outbox: &Outbox) -> Engine<B> {
        let mut reporter = Reporter::new(outbox);
        let mut teller = Teller::new();
        loop {
            let Some(command) = self.next_command(incoming, &mut reporter) else { return self.engine };
            if !self.engine.has_work() {
                teller.begin();
            }
            for command in command.into_iter().chain(incoming.try_iter().take(COMMANDS_PER_STEP_MAX)) {
                self.apply(command);
            }
            self.engine.step(&mut self.events);
            let request_ends =
                self.events.iter().any(|event| matches!(event, Event::Finished { .. } | Event::Failed { .. }));
            let work = teller.after_step(request_ends, |cpu| self.engine.take_work(cpu));
            if work.is_some() || !self.events.is_empty() {
                // Whom the time went to comes before the end of a request.
                let batch = work.into_iter().chain(self.events.drain(..).map(FromEngine::Event)).collect();
                if outbox.send(batch).is_err() {
                    return self.engine;
                }
            }
            reporter.working(&self.engine);
        }
    }

    /// The command to go on with: none while there is work, else the next one that comes. `None` when the lane ended.
    fn next_command(&mut self, incoming: &Receiver<Command>, reporter: &mut Reporter) -> Option<Option<Command>> {
        let mut idle = ARCHIVE_AFTER;
        loop {
            if !self.engine.has_work() {
                reporter.idle(&self.engine);
            }
            let waited = if self.engine.is_stalled() {
                incoming.recv_timeout(STALLED_MAX)
            } else if self.engine.has_work() {
                incoming.recv_timeout(Duration::ZERO)
            } else {
                incoming.recv_timeout(idle)
            };
            match waited {
                Ok(command) => return Some(Some(command)),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.engine.has_work() => return Some(None),
                // One after the other, so that who comes meanwhile waits for one at most.
                Err(RecvTimeoutError::Timeout) if self.engine.archive_one() => idle = Duration::ZERO,
                Err(RecvTimeoutError::Timeout) if reporter.has_told_all() => return incoming.recv().ok().map(Some),
                Err(RecvTimeoutError::Timeout) => idle = REPORT_EVERY,
            }
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Generate(request) => self.engine.submit(*request, &mut self.events),
            Command::Expect(id) => drop(self.expected.insert(id)),
            Command::Begin { request, constraint } => {
                // One that was cancelled meanwhile is expected no more.
                if self.expected.remove(&request.id) {
                    self.begin(*request, constraint);
                }
            }
            Command::Cancel(id) if self.expected.remove(&id) => {
                let (reason, tail, usage) = (FinishReason::Cancelled, String::new(), Usage::default());
                self.events.push(Event::Finished { id, reason, tail, usage });
            }
            Command::Cancel(id) => self.engine.cancel(id, &mut self.events),
            Command::Wake => {}
        }
    }

    fn begin(&mut self, request: Generate, constraint: Result<Box<dyn Constraint>, GrammarError>) {
        let id = request.id;
        match constraint {
            Ok(constraint) => self.engine.submit(Job { request, constraint: Some(constraint) }, &mut self.events),
            Err(GrammarError::Wrong(message)) => {
                let (failure, usage) = (Failure::Constraint(message), Usage::default());
                self.events.push(Event::Failed { id, failure, usage });
            }
            Err(GrammarError::Busy) => {
                let waiting = u32::try_from(self.expected.len() + self.engine.waiting()).unwrap_or(u32::MAX);
                self.events.push(Event::Refused { id, reason: RefuseReason::QueueFull { waiting, wait_ms: 0 } });
            }
        }
    }
}

//! The thread that compiles grammars. Prompts without one never wait for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use allerac_engine_core::{Constraint, Generate, Grammar, RequestId};
use allerac_engine_grammar::{Compiler, GrammarError, Vocabulary};
use allerac_engine_link::protocol::{FromEngine, PrepareError, Prompt};
use allerac_engine_llama::Model;

use crate::serve::Outbox;
use crate::steps::Command;

/// Grammars that may wait to be compiled or looked up; as many as prompts.
pub(crate) const GRAMMARS_WAITING_MAX: usize = 256;
/// A grammar that waited for so long for others is refused: the router takes an engine that needs half a minute
/// for a prompt for stuck.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What the thread is asked.
pub(crate) enum Job {
    /// Compile the grammar of a prompt that is prepared otherwise.
    Check { id: RequestId, prompt: Prompt, grammar: Grammar, since: Instant },
    /// Begin an answer; it goes to the step loop.
    Begin { request: Box<Generate>, grammar: Grammar, reply: Arc<SyncSender<Command>> },
}

/// Works until nobody can ask any more.
pub(crate) fn run(model: &'static Model, incoming: &Receiver<Job>, outbox: &Outbox) {
    let mut grammars = Grammars { model, compiler: None };
    for job in incoming {
        match job {
            Job::Check { id, prompt, grammar, since } => {
                let result = grammars.check(&grammar, since).map(|()| prompt);
                if outbox.send(vec![FromEngine::Prepared { id, result }]).is_err() {
                    return;
                }
            }
            Job::Begin { request, grammar, reply } => {
                let constraint = grammars.begin(&grammar);
                if reply.send(Command::Begin { request, constraint }).is_err() {
                    return;
                }
            }
        }
    }
}

/// The compiler of one model, made when it is first needed: it takes a while and some memory.
struct Grammars {
    model: &'static Model,
    compiler: Option<Compiler>,
}

impl Grammars {
    fn compiler(&mut self) -> Result<&mut Compiler, GrammarError> {
        if self.compiler.is_none() {
            let model = self.model;
            let (pieces, ends) = (model.pieces().to_vec(), model.end_tokens().collect());
            let names = model.names().iter().map(|(token, name)| (*token, name.clone()));
            let vocabulary = Vocabulary::new(pieces, ends, names, |text| model.tokenise_part(text));
            self.compiler = Some(Compiler::new(vocabulary)?);
        }
        Ok(self.compiler.as_mut().expect("it was made above"))
    }

    fn check(&mut self, grammar: &Grammar, since: Instant) -> Result<(), PrepareError> {
        if since.elapsed() > WAIT_MAX {
            return Err(PrepareError::Busy);
        }
        self.compiler().and_then(|compiler| compiler.check(grammar)).map_err(|error| match error {
            GrammarError::Wrong(message) => PrepareError::Grammar(message),
            GrammarError::Busy => PrepareError::Busy,
        })
    }

    fn begin(&mut self, grammar: &Grammar) -> Result<Box<dyn Constraint>, GrammarError> {
        self.compiler()?.begin(grammar)
    }
}

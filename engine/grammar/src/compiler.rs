//! Compiles grammars, under limits, and remembers the last ones.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use allerac_engine_core::{Constraint, ConstraintError, Grammar, TokenMask};
use llguidance::api::ParserLimits;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory};

use crate::error::GrammarError;
use crate::matcher::Position;
use crate::source;
use crate::vocabulary::{Trie, Vocabulary};

/// Compiled grammars that are kept: more than the applications of a household use at a time.
const COMPILED_MAX: usize = 16;
/// How long compiling may take. Ordinary grammars take milliseconds, the largest that the limits below let through
/// about a second.
const COMPILE_TIME_MAX: Duration = Duration::from_secs(5);
/// Tokens that a new grammar is tried with: where it is more than can be followed, that shows at its beginning.
const TRIAL_TOKENS: usize = 6;
/// Stack for compiling, in bytes: the library descends into nested grammars by recursion. Only what is touched
/// becomes memory.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Bounds on what a grammar may cost, below llguidance's own, which are for machines that serve nobody else.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2000,
    initial_lexer_fuel: 200_000,
    step_lexer_fuel: 200_000,
    step_max_items: 50_000,
    // At a kilobyte each, for each answer.
    max_lexer_states: 50_000,
    max_grammar_size: 100_000,
    precompute_large_lexemes: false,
    verbose_errors: false,
};

/// The beginning of a compiled grammar.
struct Start {
    matcher: Matcher,
    /// The control tokens that it names.
    named: TokenMask,
}

/// Compiles grammars for one model.
pub struct Compiler {
    vocabulary: Vocabulary,
    factory: Arc<ParserFactory>,
    /// The grammar used last comes first.
    compiled: Vec<(Grammar, Start)>,
    /// A compilation that nobody waits for any more. Until it ends, nothing else is compiled.
    overdue: Option<JoinHandle<()>>,
}

impl Compiler {
    /// A compiler for a vocabulary. Building its prefix trees takes a quarter of a second for 50,000 tokens, and
    /// about 25 megabytes.
    ///
    /// # Errors
    /// [`GrammarError::Wrong`] for a vocabulary that llguidance does not take.
    pub fn new(vocabulary: Vocabulary) -> Result<Self, GrammarError> {
        let trie: TokEnv = Arc::new(Trie::new(&vocabulary));
        let capabilities = InferenceCapabilities::default();
        let mut factory = ParserFactory::new(&trie, capabilities, &SlicedBiasComputer::json_slices())
            .map_err(|error| GrammarError::from_library(&error))?;
        factory.quiet();
        *factory.limits_mut() = LIMITS;
        Ok(Self { vocabulary, factory: Arc::new(factory), compiled: Vec::new(), overdue: None })
    }

    /// Compiles a grammar, where it is not known yet.
    ///
    /// # Errors
    /// [`GrammarError`] saying what is wrong with it.
    pub fn check(&mut self, grammar: &Grammar) -> Result<(), GrammarError> {
        let known = self.compiled.iter().position(|(known, _)| known == grammar);
        let entry = match known {
            Some(index) => self.compiled.remove(index),
            None => (grammar.clone(), self.compile(grammar.clone())?),
        };
        self.compiled.insert(0, entry);
        self.compiled.truncate(COMPILED_MAX);
        Ok(())
    }

    /// The beginning of a grammar, for one answer.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn begin(&mut self, grammar: &Grammar) -> Result<Box<dyn Constraint>, GrammarError> {
        self.check(grammar)?;
        let (_, start) = self.compiled.first().expect("what was checked comes first");
        // Going back is not possible in some grammars that only Lark can express.
        let looks_ahead = !matches!(grammar, Grammar::Lark(_));
        // Answers share nothing: what one of them makes the lexer remember counts against its own limits only.
        Ok(Box::new(start.position(&self.vocabulary, looks_ahead)))
    }

    /// Compiles on a thread of its own, and for a bounded time.
    fn compile(&mut self, grammar: Grammar) -> Result<Start, GrammarError> {
        if self.overdue.as_ref().is_some_and(|overdue| !overdue.is_finished()) {
            return Err(GrammarError::Busy);
        }
        let (sender, receiver) = sync_channel(1);
        let (factory, vocabulary) = (Arc::clone(&self.factory), self.vocabulary.clone());
        let work = move || drop(sender.send(build(&factory, &vocabulary, &grammar)));
        let thread = Builder::new().name("compile".into()).stack_size(STACK_BYTES).spawn(work);
        let thread = thread.map_err(|_| GrammarError::Busy)?;
        match receiver.recv_timeout(COMPILE_TIME_MAX) {
            Ok(compiled) => compiled,
            Err(RecvTimeoutError::Timeout) => {
                self.overdue = Some(thread);
                Err(GrammarError::Wrong("it takes too long to compile".to_owned()))
            }
            Err(RecvTimeoutError::Disconnected) => Err(GrammarError::Wrong("it cannot be compiled".to_owned())),
        }
    }
}

impl Start {
    /// For one answer.
    fn position(&self, vocabulary: &Vocabulary, looks_ahead: bool) -> Position {
        Position::new(self.matcher.deep_clone(), vocabulary.clone(), &self.named, looks_ahead)
    }
}

fn build(factory: &ParserFactory, vocabulary: &Vocabulary, grammar: &Grammar) -> Result<Start, GrammarError> {
    let source = source::translate(grammar, vocabulary)?;
    let parser = factory.create_parser(source).map_err(|error| GrammarError::from_library(&error))?;
    let start = Start { matcher: Matcher::new(Ok(parser)), named: source::named(grammar, vocabulary) };
    // What goes wrong at once is found now and not in the middle of a request.
    try_out(start.position(vocabulary, false)).map_err(|error| GrammarError::Wrong(error.to_string()))?;
    Ok(start)
}

fn try_out(mut trial: Position) -> Result<(), ConstraintError> {
    for _ in 0..TRIAL_TOKENS {
        let next = trial.allowed()?.iter().next().expect("some token is always allowed");
        if trial.ends(next) {
            return Ok(());
        }
        trial.accept(next)?;
        if trial.is_complete() {
            return Ok(());
        }
    }
    Ok(())
}

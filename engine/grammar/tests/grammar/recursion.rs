//! Random grammars in llama.cpp's notation, beside a search through all that they derive.

use std::collections::{BTreeSet, HashMap};

use allerac_engine_core::{Grammar, TokenId};
use proptest::prelude::*;

use crate::writer::{ENDS, compiler};

const RULES: usize = 3;
const NAMES: [&str; RULES] = ["root", "left", "right"];
/// Texts are compared up to so many characters of `abc`.
const LENGTH_MAX: usize = 4;

#[derive(Debug, Clone)]
enum Part {
    Literal(&'static str),
    Class(&'static str),
    Rule(usize),
    Sequence(Vec<Part>),
    Choice(Vec<Part>),
    Repeat(Box<Part>, &'static str),
}

fn parts() -> impl Strategy<Value = Part> {
    let leaf = prop_oneof![
        3 => prop_oneof![Just("a"), Just("b"), Just("ab"), Just("ba"), Just("c"), Just("")].prop_map(Part::Literal),
        2 => prop_oneof![Just("[ab]"), Just("[^a]"), Just("[b-c]")].prop_map(Part::Class),
        3 => (0..RULES).prop_map(Part::Rule),
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            3 => proptest::collection::vec(inner.clone(), 1..4).prop_map(Part::Sequence),
            2 => proptest::collection::vec(inner.clone(), 1..3).prop_map(Part::Choice),
            1 => (inner, prop_oneof![Just("*"), Just("+"), Just("?"), Just("{1,2}")])
                .prop_map(|(what, times)| Part::Repeat(what.into(), times)),
        ]
    })
}

impl Part {
    fn text(&self) -> String {
        let join = |parts: &[Self], between: &str| parts.iter().map(Self::text).collect::<Vec<_>>().join(between);
        match self {
            Self::Literal(text) => format!("\"{text}\""),
            Self::Class(class) => (*class).to_owned(),
            Self::Rule(index) => NAMES[*index].to_owned(),
            Self::Sequence(parts) => format!("({})", join(parts, " ")),
            Self::Choice(options) => format!("({})", join(options, " | ")),
            Self::Repeat(what, times) => format!("({}){times}", what.text()),
        }
    }

    /// Where the texts that it derives end, when they begin at a place of `text`.
    fn ends(&self, text: &[u8], from: usize, known: &Known) -> BTreeSet<usize> {
        let one = |matches: &dyn Fn(u8) -> bool| text.get(from).filter(|byte| matches(**byte)).map(|_| from + 1);
        match self {
            Self::Literal(literal) => {
                text[from..].starts_with(literal.as_bytes()).then_some(from + literal.len()).into_iter().collect()
            }
            Self::Class("[ab]") => one(&|byte| byte != b'c').into_iter().collect(),
            Self::Class(_) => one(&|byte| byte != b'a').into_iter().collect(),
            Self::Rule(index) => known.get(&(*index, from)).cloned().unwrap_or_default(),
            Self::Choice(options) => options.iter().flat_map(|option| option.ends(text, from, known)).collect(),
            Self::Sequence(parts) => parts.iter().fold(BTreeSet::from([from]), |places, part| {
                places.into_iter().flat_map(|place| part.ends(text, place, known)).collect()
            }),
            Self::Repeat(what, times) => {
                let (least, most) = match *times {
                    "*" => (0, usize::MAX),
                    "+" => (1, usize::MAX),
                    "?" => (0, 1),
                    _ => (1, 2),
                };
                let (mut all, mut places) = (BTreeSet::new(), BTreeSet::from([from]));
                for count in 0..=most.min(text.len() + 2) {
                    if count >= least {
                        all.extend(places.iter().copied());
                    }
                    places = places.into_iter().flat_map(|place| what.ends(text, place, known)).collect();
                }
                all
            }
        }
    }
}

/// Where the texts of a rule end that begin at a place.
type Known = HashMap<(usize, usize), BTreeSet<usize>>;

/// Whether the first rule derives a text: what the rules derive grows until nothing is new.
fn derives(rules: &[Part], text: &[u8]) -> bool {
    let mut known = Known::new();
    loop {
        let mut next = Known::new();
        for (index, rule) in rules.iter().enumerate() {
            for from in 0..=text.len() {
                next.insert((index, from), rule.ends(text, from, &known));
            }
        }
        if next == known {
            return known[&(0, 0)].contains(&text.len());
        }
        known = next;
    }
}

fn texts() -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut longest = all.clone();
    for _ in 0..LENGTH_MAX {
        longest = longest.iter().flat_map(|text| b"abc".iter().map(|byte| [&text[..], &[*byte]].concat())).collect();
        all.extend(longest.iter().cloned());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    #[test]
    fn a_grammar_lets_through_exactly_what_it_derives(rules in proptest::collection::vec(parts(), RULES)) {
        let written: Vec<String> = NAMES.iter().zip(&rules).map(|(name, rule)| format!("{name} ::= {}", rule.text())).collect();
        let grammar = Grammar::Gbnf(written.join("\n"));
        let mut compiler = compiler();
        let derived: Vec<Vec<u8>> = texts().into_iter().filter(|text| derives(&rules, text)).collect();
        if let Err(error) = compiler.check(&grammar) {
            // Then no short text is in it, or one of its rules leads nowhere, or it is beyond the limits.
            let known = ["never ends", "items"].iter().any(|word| error.to_string().contains(word));
            prop_assert!(derived.is_empty() || known, "{error}: {derived:?} of {grammar:?}");
            return Ok(());
        }
        for text in texts() {
            let mut constraint = compiler.begin(&grammar).unwrap();
            let mut fits = true;
            for byte in &text {
                let token = TokenId((*byte).into());
                fits = !constraint.is_complete() && constraint.allowed().unwrap().contains(token);
                if !fits {
                    break;
                }
                constraint.accept(token).unwrap();
            }
            let ends = fits && (constraint.is_complete() || constraint.allowed().is_ok_and(|mask| mask.contains(ENDS[0])));
            let shown = String::from_utf8_lossy(&text).into_owned();
            prop_assert_eq!(ends, derives(&rules, &text), "{} in {:?}", shown, grammar);
        }
    }
}

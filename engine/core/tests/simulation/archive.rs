//! What has no place in the context goes to the archive and comes back.

use allerac_engine_core::{Engine, Event, Generate, Limits, TokenId};

use crate::fake::{Fake, FakeArchive, Faults, LIMITS, config, drain, expected, request};

fn engine(faults: Faults, archive: FakeArchive, sequences: u32) -> Engine<Fake> {
    let limits = Limits { sequences, ..LIMITS };
    Engine::new(Fake::new(limits, faults), config(16)).with_archive(Box::new(archive))
}

/// Serves a request to its end; the tokens that were known, and the answer.
fn serve(engine: &mut Engine<Fake>, request: Generate) -> (u32, Vec<TokenId>) {
    let (mut events, id) = (Vec::new(), request.id);
    engine.submit(request, &mut events);
    drain(engine, &mut events);
    let (mut cached, mut answer) = (None, Vec::new());
    for event in events {
        match event {
            Event::Started { id: started, cached_tokens } if started == id => cached = Some(cached_tokens),
            Event::Chunk { chunk, .. } => answer.extend(chunk.tokens),
            _ => {}
        }
    }
    (cached.unwrap(), answer)
}

fn of(salt: u64, id: u64, prompt: &[u32]) -> Generate {
    Generate { salt, ..request(id, prompt, 6) }
}

const LONG: [u32; 12] = [9, 8, 7, 6, 5, 4, 3, 2, 1, 9, 8, 7];

#[test]
fn a_conversation_that_lost_its_slot_is_not_computed_again() {
    let mut engine = engine(Faults::default(), FakeArchive::default(), 1);
    let (_, first) = serve(&mut engine, of(1, 1, &LONG));
    serve(&mut engine, of(2, 2, &[20; 9]));
    // The same again is known to its last token, with what followed it.
    assert_eq!(serve(&mut engine, of(1, 3, &LONG)), (12, first.clone()));
    serve(&mut engine, of(2, 4, &[21; 9]));
    // The conversation goes on: the prompt and the answer are known.
    let mut next: Vec<u32> = LONG.iter().copied().chain(first.iter().map(|token| token.0)).collect();
    let known = u32::try_from(next.len() - 1).unwrap();
    next.extend([11, 12]);
    let (cached, answer) = serve(&mut engine, of(1, 5, &next));
    assert_eq!(cached, known);
    assert_eq!(answer, expected(&request(0, &next, 6).prompt, 6).0);
    // Another owner's timing tells nothing.
    assert_eq!(serve(&mut engine, of(3, 6, &LONG)).0, 0);
}

#[test]
fn what_takes_time_to_bring_does_not_stop_the_others() {
    let archive = FakeArchive { delay: 5, ..FakeArchive::default() };
    let mut engine = engine(Faults::default(), archive, 2);
    for (id, prompt) in [&LONG[..], &[20; 9], &[21; 9]].into_iter().enumerate() {
        serve(&mut engine, of(1, id as u64, prompt));
    }
    let mut events = Vec::new();
    engine.submit(of(1, 10, &LONG), &mut events);
    engine.step(&mut events);
    assert!(engine.is_stalled(), "there is nothing else to do");
    engine.submit(of(2, 11, &[5, 6]), &mut events);
    engine.step(&mut events);
    assert!(!engine.is_stalled());
    drain(&mut engine, &mut events);
    let started = |event: &Event| match event {
        Event::Started { id, cached_tokens } => Some((id.0, *cached_tokens)),
        _ => None,
    };
    assert_eq!(events.iter().filter_map(started).collect::<Vec<_>>(), [(11, 0), (10, 12)]);
}

#[test]
fn what_is_lost_or_cannot_be_restored_is_computed() {
    let loses = || FakeArchive { loses: Some(1), ..FakeArchive::default() };
    let fails = || Faults { never_restores: true, ..Faults::default() };
    for (faults, archive) in [(Faults::default(), loses()), (fails(), FakeArchive::default())] {
        let mut engine = engine(faults, archive, 1);
        let (_, first) = serve(&mut engine, of(1, 1, &LONG));
        serve(&mut engine, of(2, 2, &[20; 9]));
        assert_eq!(serve(&mut engine, of(1, 3, &LONG)), (0, first));
    }
}

#[test]
fn a_beginning_common_to_all_is_shared_and_no_more_than_it() {
    let mut engine = engine(Faults::default(), FakeArchive::default(), 3);
    let with = |id: u64, own: &[u32], common| {
        let prompt: Vec<u32> = LONG.iter().chain(own).copied().collect();
        Generate { common, ..of(id, id, &prompt) }
    };
    assert_eq!(serve(&mut engine, with(1, &[13, 14], 12)).0, 0);
    assert_eq!(serve(&mut engine, with(2, &[13, 15], 12)).0, 12);
    assert_eq!(serve(&mut engine, with(3, &[13, 14], 5)).0, 5);
    assert_eq!(serve(&mut engine, with(4, &[13, 14], 0)).0, 0);
    // From the archive too.
    for id in 10..14 {
        serve(&mut engine, of(id, id, &[20; 9]));
    }
    assert_eq!(serve(&mut engine, with(5, &[13, 15], 12)).0, 12);
}

#[test]
fn closing_archives_what_is_known() {
    let mut engine = engine(Faults::default(), FakeArchive::default(), 3);
    serve(&mut engine, of(1, 1, &LONG));
    let mut events = Vec::new();
    engine.submit(of(2, 2, &[20; 9]), &mut events);
    engine.step(&mut events);
    assert!(engine.archive_one(), "the ended one");
    assert!(!engine.archive_one(), "the other is at work");
    let mut archive = engine.close().unwrap();
    let find = |archive: &mut Box<dyn allerac_engine_core::Archive>, request: &Generate| {
        archive.find(request).map(|found| found.common)
    };
    assert_eq!(find(&mut archive, &of(1, 3, &LONG)), Some(12));
    assert_eq!(find(&mut archive, &of(2, 4, &[20; 9])), Some(9));
    assert_eq!(find(&mut archive, &of(3, 5, &[20; 9])), None);
}

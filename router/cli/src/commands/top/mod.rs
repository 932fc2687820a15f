//! `allerac top`: asks for the metrics once a second and shows what they say.

mod figures;
mod scrape;
mod screen;
mod source;
mod view;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::args::{Place, Top};
use crate::failure::Failure;
use crate::output::{print_json, print_line};
use crate::serve::stop::Signals;
use figures::Figures;
use scrape::Scrape;
use screen::Screen;
use source::Source;

/// How often the view changes.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Rates are of this time: long enough not to flicker.
const RATES_OVER: Duration = Duration::from_secs(5);
/// Percentiles and shares are of this time.
const SHARES_OVER: Duration = Duration::from_secs(60);
/// Nobody's terminal is this wide; text that goes elsewhere is not cut.
const WIDTH_UNBOUNDED: usize = 1000;

pub(crate) async fn run(args: &Top, place: &Place) -> Result<(), Failure> {
    let source = Source::new(args, place)?;
    let mut history = History::default();
    // What is wrong from the beginning is said and not shown.
    history.push(source.scrape().await?);
    if args.once {
        tokio::time::sleep(REFRESH_EVERY).await;
        history.push(source.scrape().await?);
        let figures = history.figures(&source, Shares::Always);
        let printed = if args.json { print_json(&figures) } else { print_text(&figures) };
        return Ok(printed?);
    }
    if args.json || !io::stdout().is_terminal() {
        return print_on(args, &source, history).await;
    }
    watch(&source, history).await
}

/// Prints second by second until a signal comes, or nobody reads any more.
async fn print_on(args: &Top, source: &Source, mut history: History) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    loop {
        let figures = history.figures(source, Shares::Lately);
        if args.json {
            let line = serde_json::to_string(&figures).expect("figures are plain data");
            print_line(&line)?;
        } else {
            print_text(&figures)?;
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH_EVERY) => {}
            _ = signals.next() => return Ok(()),
        }
        history.push(source.scrape().await?);
    }
}

/// Draws on the terminal until somebody ends it. A server that goes away may come back.
async fn watch(source: &Source, mut history: History) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut screen = Screen::open()?;
    let mut trouble = None;
    loop {
        let figures = history.figures(source, Shares::Lately);
        screen.draw(&view::lines(&figures, trouble.as_deref()))?;
        let due = Instant::now() + REFRESH_EVERY;
        while Instant::now() < due {
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                goes_on = screen.next() => {
                    if !goes_on {
                        return Ok(());
                    }
                    screen.draw(&view::lines(&figures, trouble.as_deref()))?;
                }
                _ = signals.next() => return Ok(()),
            }
        }
        match source.scrape().await {
            Ok(scrape) => {
                history.push(scrape);
                trouble = None;
            }
            Err(failure) => trouble = Some(failure.into_parts().0),
        }
    }
}

fn print_text(figures: &Figures) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in view::lines(figures, None) {
        writeln!(out, "{}", line.cut(WIDTH_UNBOUNDED))?;
    }
    out.flush()
}

/// Whether percentiles and shares are of the last minute or of all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shares {
    Lately,
    Always,
}

/// What was said in the last minute, oldest first.
#[derive(Debug, Default)]
struct History(VecDeque<(Instant, Scrape)>);

impl History {
    fn push(&mut self, scrape: Scrape) {
        let now = Instant::now();
        // Another process counts from zero again.
        if self.0.back().is_some_and(|(_, last)| scrape.began_anew(last)) {
            self.0.clear();
        }
        // The first one that is older stays: the window reaches back to it.
        while self.0.get(1).is_some_and(|(at, _)| now - *at >= SHARES_OVER) {
            self.0.pop_front();
        }
        self.0.push_back((now, scrape));
    }

    fn figures(&self, source: &Source, shares: Shares) -> Figures {
        let (now, last) = self.0.back().expect("the first scrape is there");
        let recent = self.0.iter().rev().take_while(|(at, _)| *now - *at <= RATES_OVER).last();
        let (since, before) = recent.map_or((*now, last), |(at, scrape)| (*at, scrape));
        let earlier = self.0.front().map(|(_, scrape)| scrape).filter(|_| shares == Shares::Lately);
        Figures::new(source.url(), last, before, (*now - since).as_secs_f64(), earlier)
    }
}

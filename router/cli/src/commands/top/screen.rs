//! The terminal, while the view has it.

use std::io::{self, Stdout, Write, stdout};

use crossterm::event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{cursor, execute, queue};
use futures_util::StreamExt;

use super::view::Line;

/// The terminal's other screen. Dropping it gives the terminal back as it was.
pub(super) struct Screen {
    out: Stdout,
    events: EventStream,
}

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        // From here on a failure, too, leaves by way of the drop.
        let mut screen = Self { out: stdout(), events: EventStream::new() };
        execute!(screen.out, EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    /// Draws from the top, as much as fits. The last column stays free: what stands in it is easily wiped again.
    pub(super) fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let (width, height) = size()?;
        let (width, height) = (usize::from(width), usize::from(height));
        queue!(self.out, BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
        for (row, line) in lines.iter().take(height).enumerate() {
            if row > 0 {
                queue!(self.out, Print("\r\n"))?;
            }
            let is_cut = row + 1 == height && lines.len() > height;
            let text = if is_cut { "... more below" } else { line.cut(width.saturating_sub(1)) };
            let attribute = if line.is_title { Attribute::Bold } else { Attribute::Reset };
            queue!(self.out, SetAttribute(attribute), Print(text), SetAttribute(Attribute::Reset))?;
            queue!(self.out, Clear(ClearType::UntilNewLine))?;
        }
        if lines.len() < height {
            queue!(self.out, Print("\r\n"), Clear(ClearType::FromCursorDown))?;
        }
        queue!(self.out, EndSynchronizedUpdate)?;
        self.out.flush()
    }

    /// Waits for what needs another drawing; `false` when somebody wants to end.
    pub(super) async fn next(&mut self) -> bool {
        while let Some(event) = self.events.next().await {
            match event {
                Ok(Event::Resize(..)) => return true,
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                    let is_control_c = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                    if is_control_c || matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc) {
                        return false;
                    }
                }
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(self.out, cursor::Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

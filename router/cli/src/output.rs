//! Prints listings, as a table for people or as JSON for scripts, and makes the files that commands write.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;

use crate::failure::{Exit, Failure};

/// Makes a file that only its owner reads; one that is there already is left alone.
pub(crate) fn create_private(path: &Path) -> Result<BufWriter<File>, Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map(BufWriter::new).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::new(Exit::Conflict, format!("{} is there already", path.display()))
            .hint("name a file that is not there"),
        _ => Failure::from_io("write", path, &error),
    })
}

/// A table whose columns are as wide as their widest cell.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// Where a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(self.render().as_bytes())?;
        out.flush()
    }

    fn render(&self) -> String {
        let widths: Vec<usize> = self.columns.iter().enumerate().map(|(index, _)| self.width(index)).collect();
        let header: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let mut text = String::new();
        for cells in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, align)) in cells.iter().zip(&widths).zip(&self.columns) {
                let gap = " ".repeat(width - cell.chars().count());
                let (before, after) = if *align == Align::Left { ("", gap.as_str()) } else { (gap.as_str(), "") };
                line.extend([before, cell, after, "  "]);
            }
            text.extend([line.trim_end(), "\n"]);
        }
        text
    }

    fn width(&self, index: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[index].chars().count());
        cells.chain([self.columns[index].0.len()]).max().unwrap_or(0)
    }
}

/// Prints a value as indented JSON.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints one line.
pub(crate) fn print_line(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A number with its thousands apart: `1 234 567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A size in the unit that leaves one to three digits before the point.
pub(crate) fn bytes(size: u64) -> String {
    indicatif::DecimalBytes(size).to_string()
}

/// A number of parameters as the field writes it: `135M`, `7.6B`.
pub(crate) fn parameters(count: u64) -> String {
    let (divisor, unit) = if count >= 1_000_000_000 { (100_000_000, "B") } else { (100_000, "M") };
    let tenths = (count + divisor / 2) / divisor;
    match tenths % 10 {
        0 => format!("{}{unit}", tenths / 10),
        tenth if tenths < 1_000 => format!("{}.{tenth}{unit}", tenths / 10),
        _ => format!("{}{unit}", (tenths + 5) / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("NAME", Align::Left), ("TOKENS", Align::Right)]);
        table.row(vec!["anna".into(), grouped(1_234_567)]);
        table.row(vec!["Zoë".into(), grouped(7)]);
        assert_eq!(table.render(), "NAME     TOKENS\nanna  1 234 567\nZoë           7\n");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1 000", "12 345 678"]);
        let counts = [134_515_008, 7_615_616_512, 8_000_000_000, 70_553_706_496];
        assert_eq!(counts.map(parameters), ["135M", "7.6B", "8B", "70.6B"]);
    }
}

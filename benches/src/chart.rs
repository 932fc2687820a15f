//! The ratios as a picture: a bar for each measurement, on a logarithmic scale, with a mark at its aim.

use std::fmt::Write;

use crate::bench::Pair;

/// Measures in pixels.
const ROW: f64 = 26.0;
const LABEL_WIDTH: f64 = 520.0;
const BARS_WIDTH: f64 = 420.0;
const TOP: f64 = 34.0;
/// The scale goes from `1 / LEAST_BELOW` to this.
const RATIO_MAX: f64 = 100.0;
const LEAST_BELOW: f64 = 2.0;

/// An SVG of these sections, each a title with its pairs.
pub(crate) fn svg(sections: &[(String, Vec<Pair>)]) -> String {
    let rows: usize = sections.iter().map(|(_, pairs)| pairs.len() + 1).sum();
    let (width, height) = (LABEL_WIDTH + BARS_WIDTH + 70.0, TOP + ROW * count(rows) + 10.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for ratio in [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0] {
        let (x, colour) = (LABEL_WIDTH + place(ratio), if ratio == 1.0 { "#444" } else { "#ddd" });
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{height}\" stroke=\"{colour}\"/><text x=\"{x:.1}\" \
             y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{ratio}x</text>",
            TOP - 10.0
        );
    }
    let mut y = TOP;
    for (title, pairs) in sections {
        let _ = writeln!(text, "<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>", y + 18.0, escaped(title));
        y += ROW;
        for pair in pairs {
            row(&mut text, y, pair);
            y += ROW;
        }
    }
    text + "</svg>\n"
}

fn row(text: &mut String, y: f64, pair: &Pair) {
    let ratio = pair.ratio();
    let (from, to) = (place(1.0).min(place(ratio)), place(1.0).max(place(ratio)));
    let is_met = pair.target.is_none_or(|target| ratio >= target);
    let colour = if is_met { "#2c7a4b" } else { "#c07a1e" };
    let _ = write!(
        text,
        "<text x=\"8\" y=\"{}\">{}</text><rect x=\"{:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>\
         <text x=\"{:.1}\" y=\"{}\">{ratio:.2}</text>",
        y + 17.0,
        escaped(&pair.what),
        LABEL_WIDTH + from,
        y + 4.0,
        (to - from).max(1.0),
        ROW - 8.0,
        LABEL_WIDTH + to + 6.0,
        y + 17.0,
    );
    if let Some(target) = pair.target {
        let x = LABEL_WIDTH + place(target);
        let (top, bottom) = (y + 1.0, y + ROW - 1.0);
        let _ = write!(
            text,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"black\" stroke-width=\"2\"/>"
        );
    }
    text.push('\n');
}

/// Where a ratio is on the scale.
fn place(ratio: f64) -> f64 {
    let shown = ratio.clamp(1.0 / LEAST_BELOW, RATIO_MAX);
    BARS_WIDTH * (shown * LEAST_BELOW).ln() / (RATIO_MAX * LEAST_BELOW).ln()
}

#[allow(clippy::cast_precision_loss, reason = "a page has few rows")]
fn count(rows: usize) -> f64 {
    rows as f64
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

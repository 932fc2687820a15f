//! `allerac console`: what the screen of a box shows, so that its owner finds and claims it.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use allerac_discovery::{Scope, lan_addresses};
use allerac_http::AUTHORITY_PATH;
use allerac_tls::fingerprint;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use reqwest::{Client, Url};
use serde::Deserialize;

use crate::args::Console;
use crate::failure::{Exit, Failure};
use crate::serve::stop::Signals;

/// How often what is shown is looked at again.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// How long the server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Clears a terminal and goes to its corner.
const CLEAR: &str = "\x1b[2J\x1b[H";
/// Longest claim code, so that a wrong file is not shown whole.
const CODE_CHARS_MAX: usize = 32;

/// Of a text console with 80 columns, less a margin at either side.
const LINE_CHARS_MAX: usize = 76;
const NO_NETWORK: &str = "  No network yet: plug in a cable from your router.\n";

/// What there is to show.
#[derive(Debug, Default, PartialEq, Eq)]
struct View {
    /// Nothing while the server does not answer.
    claim: Option<Claim>,
    model: String,
    system: Option<System>,
    addresses: Vec<IpAddr>,
    port: Option<u16>,
    code: Option<String>,
    /// While the server does not start.
    emergency: Option<Emergency>,
    /// Of the certificate authority, where the box serves HTTPS with its own.
    fingerprint: Option<String>,
}

/// The answer of `GET /claim`.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
struct Claim {
    claimed: bool,
    name: String,
    version: String,
}

/// The answer of `GET /readyz`.
#[derive(Debug, Default, Deserialize)]
struct Readiness {
    detail: String,
    #[serde(default)]
    system: Option<System>,
}

/// Which version of the image runs, and what became of the last update.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
struct System {
    version: String,
    notice: Option<String>,
}

/// What the emergency page leaves for the screen.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Emergency {
    says: String,
    code: String,
}

pub(crate) async fn run(args: &Console) -> Result<(), Failure> {
    let client = Client::builder().timeout(ANSWER_MAX).no_proxy().build();
    let client = client.map_err(|error| Failure::from_error(Exit::Failure, &error))?;
    let mut signals = Signals::new()?;
    let mut shown = None;
    loop {
        let view = look(args, &client).await;
        if shown.as_ref() != Some(&view) {
            let text = format!("{}{}", if args.once { "" } else { CLEAR }, view.render());
            let mut screen = io::stdout().lock();
            screen.write_all(text.as_bytes())?;
            screen.flush()?;
            shown = Some(view);
        }
        if args.once {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH_EVERY) => {}
            _ = signals.next() => return Ok(()),
        }
    }
}

async fn look(args: &Console, client: &Client) -> View {
    let claim = ask::<Claim>(client, &args.url, "claim").await;
    let Readiness { detail: model, system } = ask(client, &args.url, "readyz").await.unwrap_or_default();
    let everywhere = "0.0.0.0:0".parse().expect("it is an address");
    let addresses = Scope::of(everywhere).and_then(|scope| lan_addresses(scope).ok()).unwrap_or_default();
    let fingerprint = authority(client, &args.url).await.map(|certificate| fingerprint(&certificate));
    let is_free = claim.as_ref().is_some_and(|claim| !claim.claimed);
    let code = args.code_file.as_ref().filter(|_| is_free).and_then(|file| std::fs::read_to_string(file).ok());
    let code = code.map(|code| code.trim().chars().take(CODE_CHARS_MAX).collect());
    let emergency = args.emergency_file.as_ref().and_then(|file| std::fs::read(file).ok());
    let emergency = emergency.and_then(|text| serde_json::from_slice(&text).ok());
    View { claim, model, system, addresses, port: args.url.port(), code, emergency, fingerprint }
}

async fn ask<T: for<'de> Deserialize<'de>>(client: &Client, url: &Url, path: &str) -> Option<T> {
    let answer = client.get(url.join(path).ok()?).send().await.ok()?;
    answer.json().await.ok()
}

async fn authority(client: &Client, url: &Url) -> Option<Vec<u8>> {
    let answer = client.get(url.join(AUTHORITY_PATH).ok()?).send().await.ok()?;
    answer.error_for_status().ok()?.bytes().await.ok().map(Into::into)
}

impl View {
    fn render(&self) -> String {
        let Some(claim) = &self.claim else { return self.render_without_server() };
        let version = self.system.as_ref().map_or(&claim.version, |system| &system.version);
        let mut text = format!("\n  Allerac {version}\n\n");
        if self.addresses.is_empty() {
            return text + NO_NETWORK;
        }
        self.render_addresses(&mut text, &format!("{}.local", claim.name));
        if let Some(code) = &self.code {
            text += &format!("\n  Claim code   {code}\n  Whoever types it there first owns this box.\n");
        }
        if let Some(fingerprint) = &self.fingerprint {
            let (first, second) = fingerprint.split_at(fingerprint.len() / 2 + 1);
            text += &format!("\n  For https, trust {AUTHORITY_PATH} where its fingerprint is\n");
            text += &format!("      {first}\n      {second}\n");
        }
        text += &format!("\n  {}\n", self.model);
        if let Some(notice) = self.system.as_ref().and_then(|system| system.notice.as_ref()) {
            text += &format!("  {notice}\n");
        }
        text
    }

    /// Where the box is, in words and as a picture that phones read.
    fn render_addresses(&self, text: &mut String, name: &str) {
        *text += "  Open this in a browser on the same network:\n\n";
        if !name.is_empty() {
            *text += &format!("      {}\n", self.url(name));
        }
        for address in &self.addresses {
            *text += &format!("      {}\n", self.url(&host(*address)));
        }
        let code = self.addresses.first().and_then(|address| QrCode::new(self.url(&host(*address))).ok());
        if let Some(code) = code {
            let drawn = code.render::<Dense1x2>().quiet_zone(true).build();
            *text += "\n";
            text.extend(drawn.lines().map(|line| format!("      {line}\n")));
        }
    }

    /// Nobody answers for a name then: the server does that.
    fn render_without_server(&self) -> String {
        let Some(Emergency { says, code }) = &self.emergency else {
            return "\n  Allerac is starting ...\n".to_owned();
        };
        let mut text = "\n  Allerac does not start\n\n".to_owned();
        for line in wrapped(says) {
            text += &format!("  {line}\n");
        }
        if self.addresses.is_empty() {
            return text + "\n" + NO_NETWORK;
        }
        text += "\n";
        self.render_addresses(&mut text, "");
        text + &format!("\n  Code   {code}\n  The page asks for it.\n")
    }

    fn url(&self, host: &str) -> String {
        match self.port {
            Some(port) => format!("http://{host}:{port}"),
            None => format!("http://{host}"),
        }
    }
}

/// Lines that the narrowest screen shows whole.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < LINE_CHARS_MAX => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// An address as it stands in a URL.
fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            claim: Some(Claim { claimed: false, name: "allerac".into(), version: "1.2.3".into() }),
            model: "a model can answer".into(),
            system: None,
            addresses: vec!["192.168.1.20".parse().unwrap(), "fd00::1".parse().unwrap()],
            port: None,
            code: Some("K7QF-3MTP".into()),
            emergency: None,
            fingerprint: None,
        }
    }

    #[test]
    fn a_free_box_shows_where_it_is_and_its_code() {
        let text = view().render();
        let plain: Vec<&str> = text.lines().filter(|line| line.is_ascii() && !line.trim().is_empty()).collect();
        assert_eq!(
            plain,
            [
                "  Allerac 1.2.3",
                "  Open this in a browser on the same network:",
                "      http://allerac.local",
                "      http://192.168.1.20",
                "      http://[fd00::1]",
                "  Claim code   K7QF-3MTP",
                "  Whoever types it there first owns this box.",
                "  a model can answer",
            ]
        );
        let drawn = text.lines().filter(|line| line.contains(['█', '▀', '▄'])).count();
        assert!((10..24).contains(&drawn), "{text}");
        assert!(View { port: Some(8080), ..view() }.render().contains("http://192.168.1.20:8080\n"));
    }

    #[test]
    fn what_became_of_an_update_is_said() {
        let notice = Some("version 0.1.0.8 did not work on this box; version 0.1.0.7 runs again".to_owned());
        let text = View { system: Some(System { version: "0.1.0.7".into(), notice }), ..view() }.render();
        assert!(text.starts_with("\n  Allerac 0.1.0.7\n"), "{text}");
        assert!(text.ends_with("  version 0.1.0.8 did not work on this box; version 0.1.0.7 runs again\n"), "{text}");
    }

    #[test]
    fn a_box_whose_server_does_not_start_shows_the_way_to_the_emergency_page() {
        let says =
            "The disk of this box is full, so nothing can be noted any more. Start again, or save the log.".to_owned();
        let emergency = Some(Emergency { says, code: "K7QF-3MTP".into() });
        let text = View { claim: None, emergency, ..view() }.render();
        let plain: Vec<&str> = text.lines().filter(|line| line.is_ascii() && !line.trim().is_empty()).collect();
        assert_eq!(
            plain,
            [
                "  Allerac does not start",
                "  The disk of this box is full, so nothing can be noted any more. Start again,",
                "  or save the log.",
                "  Open this in a browser on the same network:",
                "      http://192.168.1.20",
                "      http://[fd00::1]",
                "  Code   K7QF-3MTP",
                "  The page asks for it.",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        assert!(!View { code: None, ..view() }.render().contains("Claim code"));
        assert!(View { addresses: Vec::new(), ..view() }.render().contains("plug in a cable"));
        assert!(View { claim: None, ..view() }.render().contains("starting"));
    }
}

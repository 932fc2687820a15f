//! What `allerac serve` tells on stdout once it listens.

use std::env;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use allerac_discovery::{Scope, lan_addresses};
use allerac_http::AUTHORITY_PATH;

/// What there is to tell.
#[derive(Clone)]
pub(crate) struct Banner<'a> {
    pub(crate) listen: SocketAddr,
    /// Where HTTPS is served.
    pub(crate) secure: Option<SocketAddr>,
    /// Of the box's own authority, where HTTPS is served with it.
    pub(crate) fingerprint: Option<String>,
    pub(crate) data_dir: &'a Path,
    /// The one-time code, while the box has no owner.
    pub(crate) claim_code: Option<&'a str>,
    /// The model that answers, when one is installed.
    pub(crate) model: Option<&'a str>,
    /// The model to suggest when none is.
    pub(crate) suggestion: &'a str,
    /// A better model for this machine that is not installed.
    pub(crate) better: Option<&'a str>,
}

impl Banner<'_> {
    pub(crate) fn render(&self) -> String {
        let addresses = addresses(self.listen);
        let mut text = String::new();
        for (index, address) in addresses.iter().enumerate() {
            let title = if index == 0 { "Allerac serves" } else { "" };
            let _ = writeln!(text, "{title:<15} http://{address}");
        }
        for address in self.secure.map(self::addresses).unwrap_or_default() {
            let _ = writeln!(text, "{:<15} https://{address}", "");
        }
        if let Some(fingerprint) = &self.fingerprint {
            let _ = writeln!(text, "{:<15} {fingerprint}   (of {AUTHORITY_PATH}, to compare)", "Fingerprint");
        }
        if let Some(code) = self.claim_code {
            let _ = writeln!(text, "{:<15} {code}   (open the page and type it to own this box)", "Claim code");
        }
        let program = program();
        let data_dir = quoted(&self.data_dir.display().to_string());
        let Some(model) = self.model else {
            let _ = writeln!(
                text,
                "\nNo model is installed yet. Fetch one, then start the server again:\n\n  \
                 {program} models pull {} --data-dir {data_dir}",
                self.suggestion
            );
            return text;
        };
        // Bounded: a small model may ramble until its context is full.
        let body = format!(
            r#"{{"model":"{model}","max_tokens":64,"messages":[{{"role":"user","content":"Why is the sky blue?"}}]}}"#
        );
        let _ = writeln!(
            text,
            "\nTry it from a terminal on this machine:\n\n  \
             curl http://{}/v1/chat/completions -H 'Content-Type: application/json' \
             -H \"Authorization: Bearer $({program} keys create --user me --data-dir {data_dir})\" -d {}",
            addresses[0],
            quoted(&body)
        );
        if let Some(better) = self.better {
            let _ = writeln!(
                text,
                "\nThis machine has memory for {better}. See what it would do, and fetch it:\n\n  \
                 {program} models fit {better}\n  {program} models pull {better} --data-dir {data_dir}"
            );
        }
        text
    }
}

/// How this server is reached: the machine itself first, then its addresses on the network.
fn addresses(listen: SocketAddr) -> Vec<SocketAddr> {
    let Some(scope) = Scope::of(listen) else { return vec![listen] };
    let port = listen.port();
    let mut addresses = Vec::new();
    if listen.ip().is_unspecified() {
        addresses.push(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port));
    }
    let lan = lan_addresses(scope).unwrap_or_default();
    addresses.extend(lan.into_iter().map(|ip| SocketAddr::new(ip, port)));
    if addresses.is_empty() { vec![listen] } else { addresses }
}

/// The running program, so that the printed commands work without it being on the PATH.
fn program() -> String {
    env::current_exe().map_or_else(|_| "allerac".to_owned(), |path| quoted(&path.display().to_string()))
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("/data/x-1"), "/data/x-1");
        assert_eq!(quoted("a b"), "'a b'");
        for word in ["", "it's", "$HOME `x` \"q\"", "a\\b"] {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn tells_what_there_is() {
        let banner = Banner {
            listen: "127.0.0.1:8080".parse().unwrap(),
            secure: Some("127.0.0.1:8443".parse().unwrap()),
            fingerprint: Some("AB:CD".into()),
            data_dir: Path::new("/data"),
            claim_code: Some("K7QF-3MTP"),
            model: Some("m"),
            suggestion: "s",
            better: None,
        };
        let text = banner.render();
        let begins = [
            "Allerac serves  http://127.0.0.1:8080",
            "                https://127.0.0.1:8443",
            "Fingerprint     AB:CD   (of /authority.crt, to compare)",
            "Claim code      K7QF-3MTP ",
        ];
        assert!(text.starts_with(&begins.join("\n")), "{text}");
        assert!(
            text.contains(" keys create --user me --data-dir /data)\" -d '{\"model\":\"m\",\"max_tokens\":64,"),
            "{text}"
        );
        assert!(!text.contains("models pull"), "{text}");
        let text = Banner { better: Some("large"), ..banner.clone() }.render();
        assert!(text.contains("memory for large") && text.contains("models pull large --data-dir /data"), "{text}");
        let text = Banner { claim_code: None, model: None, ..banner }.render();
        assert!(!text.contains("Claim code") && text.contains("models pull s --data-dir /data"), "{text}");
    }
}

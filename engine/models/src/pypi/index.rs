//! A package index, asked as pip is configured: only its page of one package is fetched, never a package to tell where it is.
//!
//! The page is JSON (PEP 691) or HTML (PEP 503).

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::process::Command;

use super::Package;

/// What a page may take, in bytes: a few hundred for each file of the package.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// JSON where the index has it.
const ACCEPTED: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";
/// Prints the index that pip asks where nothing is configured.
const DEFAULT_INDEX: &str = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)";

#[derive(Debug, Deserialize)]
struct Page {
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: Hashes,
}

#[derive(Debug, Default, Deserialize)]
struct Hashes {
    sha256: Option<String>,
}

/// The address and the digest of a package's wheel; why not, where pip or the index does not tell.
pub(super) async fn locate(client: &Client, package: &Package<'_>) -> Result<(String, String), String> {
    let mut last = "pip names no index".to_owned();
    for index in indexes().await? {
        match ask(client, &index, package).await {
            Ok(found) => return Ok(found),
            Err(reason) => last = reason,
        }
    }
    Err(last)
}

/// The indexes that pip asks, as it is configured.
async fn indexes() -> Result<Vec<String>, String> {
    let settings = python(&["-m", "pip", "--disable-pip-version-check", "config", "list"]).await?;
    let mut found = configured(&settings);
    if found.is_empty() {
        found = python(&["-c", DEFAULT_INDEX]).await?.lines().map(str::to_owned).collect();
    }
    Ok(found)
}

async fn python(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("python3").args(arguments).kill_on_drop(true).output().await;
    let output = output.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// From lines like `global.index-url='https://...'`. What the environment says comes first, then the command's own section.
fn configured(settings: &str) -> Vec<String> {
    let value = |key: &str| {
        let line = settings.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches(['\'', '"']).split_whitespace().map(str::to_owned).collect::<Vec<String>>())
    };
    let first = |name: &str| {
        let keys = [":env:.", "install.", "global."].map(|section| format!("{section}{name}"));
        keys.iter().find_map(|key| value(key)).unwrap_or_default()
    };
    let index = first("index-url");
    if index.is_empty() { index } else { [index, first("extra-index-url")].concat() }
}

async fn ask(client: &Client, index: &str, package: &Package<'_>) -> Result<(String, String), String> {
    let name = normalised(package.name);
    let base = format!("{}/", index.trim_end_matches('/'));
    let url = Url::parse(&base).and_then(|base| base.join(&format!("{name}/"))).map_err(|error| error.to_string())?;
    // Who asks may stand in the address; no error repeats it.
    let request = client.get(url.clone()).header(ACCEPT, ACCEPTED);
    let mut response = request.send().await.map_err(|error| error.without_url().to_string())?;
    if !response.status().is_success() {
        return Err(format!("the index answered {} for {name}", response.status()));
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let at = response.url().clone();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
        if body.len() + piece.len() > PAGE_BYTES_MAX {
            return Err(format!("the index's page of {name} is too large"));
        }
        body.extend_from_slice(&piece);
    }
    let files = if kind.contains("json") {
        serde_json::from_slice::<Page>(&body).map_err(|error| error.to_string())?.files
    } else {
        links(&String::from_utf8_lossy(&body))
    };
    choose(files, &at, package).ok_or_else(|| format!("the index has no wheel of {name} {}", package.version))
}

/// The wheel of a version for every machine, with its address whole.
fn choose(files: Vec<File>, at: &Url, package: &Package<'_>) -> Option<(String, String)> {
    let wanted = format!("{}-{}-", normalised(package.name).replace('-', "_"), package.version).to_ascii_lowercase();
    let fits = |file: &File| {
        let name = file.filename.to_ascii_lowercase();
        name.starts_with(&wanted) && name.ends_with("-none-any.whl")
    };
    let file = files.into_iter().find(|file| fits(file) && file.hashes.sha256.is_some())?;
    let mut url = at.join(&file.url).ok()?;
    url.set_fragment(None);
    if url.host() == at.host() && url.username().is_empty() && !at.username().is_empty() {
        url.set_username(at.username()).ok()?;
        url.set_password(at.password()).ok()?;
    }
    Some((url.to_string(), file.hashes.sha256?))
}

/// The files of a page in HTML: anchors whose address ends with `#sha256=...`.
fn links(page: &str) -> Vec<File> {
    let file = |anchor: &str| {
        let tag = anchor.split_once('>')?.0;
        let quoted = tag.split_once("href=")?.1;
        let quote = quoted.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let url = quoted[1..].split(quote).next()?.replace("&amp;", "&");
        let (path, fragment) = url.split_once('#')?;
        let sha256 = fragment.split('&').find_map(|part| part.strip_prefix("sha256="))?.to_owned();
        let filename = path.split('?').next()?.rsplit('/').next()?.to_owned();
        Some(File { filename, url: path.to_owned(), hashes: Hashes { sha256: Some(sha256) } })
    };
    page.split("<a ").skip(1).filter_map(file).collect()
}

/// PEP 503: lower case, with a dash for each run of `-`, `_` and `.`.
fn normalised(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGE: Package<'_> = Package { name: "My_Model", version: "1.2" };

    #[test]
    fn pip_says_where_it_asks() {
        let settings = "global.index-url='https://a/simple'\nglobal.extra-index-url='https://b/simple https://c'\n";
        assert_eq!(configured(settings), ["https://a/simple", "https://b/simple", "https://c"]);
        let environment = format!("{settings}:env:.index-url='https://e/simple/'\n:env:.extra-index-url=''\n");
        assert_eq!(configured(&environment), ["https://e/simple/"]);
        assert_eq!(configured("global.timeout='5'\n"), Vec::<String>::new());
    }

    #[test]
    fn pages_of_both_kinds_name_the_wheel() {
        let at = Url::parse("https://u:p@index/simple/my-model/").unwrap();
        let sha256 = "ab".repeat(32);
        let html = format!(
            "<a href=\"../../f/my_model-1.1-py3-none-any.whl#sha256=00\">x</a>\n<a data-requires-python=\"&gt;=3\" \
             href='/f/my_model-1.2-py3-none-any.whl#sha256={sha256}'>y</a><a href=\"/f/my-model-1.2.tar.gz#sha256=11\">"
        );
        let found = choose(links(&html), &at, &PACKAGE);
        assert_eq!(found, Some(("https://u:p@index/f/my_model-1.2-py3-none-any.whl".to_owned(), sha256.clone())));
        let json = format!(
            r#"{{"files":[{{"filename":"my_model-1.2.tar.gz","url":"x"}},
                {{"filename":"my_model-1.2-py3-none-any.whl","url":"https://files/w.whl","hashes":{{"sha256":"{sha256}"}}}}]}}"#
        );
        let page: Page = serde_json::from_str(&json).unwrap();
        // Who asks one host is no business of another.
        assert_eq!(choose(page.files, &at, &PACKAGE), Some(("https://files/w.whl".to_owned(), sha256)));
        assert_eq!(choose(links("<a href=my_model-1.2-py3-none-any.whl>"), &at, &PACKAGE), None);
    }
}

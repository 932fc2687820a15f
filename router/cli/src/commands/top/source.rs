//! Where the metrics come from, and what opens them.

use std::time::Duration;

use allerac_http::Pass;
use reqwest::{Client, StatusCode, Url};

use super::scrape::Scrape;
use crate::args::{Place, Top};
use crate::failure::{Exit, Failure};
use crate::secret;

/// A server that takes longer is as good as none.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// A server, and what it lets us look with.
pub(super) struct Source {
    url: Url,
    client: Client,
    opener: Opener,
}

enum Opener {
    Key(String),
    /// Made anew for each request; only ever sent to this machine.
    Pass(Pass),
}

impl Source {
    pub(super) fn new(args: &Top, place: &Place) -> Result<Self, Failure> {
        let opener = match args.key.clone().filter(|key| !key.is_empty()) {
            Some(key) => Opener::Key(key),
            None => Opener::Pass(Pass::to_metrics(&secret::of_server(&args.url, place)?)),
        };
        let client = Client::builder().timeout(ANSWER_TIME_MAX).no_proxy().build();
        let client = client.map_err(|error| Failure::from_error(Exit::Failure, &error))?;
        Ok(Self { url: args.url.clone(), client, opener })
    }

    /// The server's address.
    pub(super) fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// What the server says now.
    pub(super) async fn scrape(&self) -> Result<Scrape, Failure> {
        let opener = match &self.opener {
            Opener::Key(key) => key.clone(),
            Opener::Pass(pass) => pass.issue(jiff::Timestamp::now().as_second()),
        };
        let request = self.client.get(format!("{}/metrics", self.url())).bearer_auth(opener);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.refused()),
            status => return Err(self.strange(&format!("it answered with {status}"))),
        }
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        Scrape::parse(&text).map_err(|problem| self.strange(&problem))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() { "answers in time" } else { "answers" };
        Failure::new(Exit::Failure, format!("no server {why} at {}", self.url()))
            .hint("start it with `allerac serve`, or say where it is with --url")
    }

    fn refused(&self) -> Failure {
        let failure = Failure::new(Exit::Conflict, format!("{} does not show its metrics", self.url()));
        match self.opener {
            Opener::Key(_) => failure.hint("use a key of the box's owner"),
            Opener::Pass(_) => failure.hint("name the server's own --data-dir, or a key of its owner with --key"),
        }
    }

    fn strange(&self, problem: &str) -> Failure {
        Failure::new(Exit::Failure, format!("{} gives no metrics: {problem}", self.url()))
            .hint("is it an Allerac server of this version?")
    }
}

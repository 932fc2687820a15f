//! The page that is there while the server is not: what is wrong, and what can be done about it. Whoever comes along sees the
//! first; the log and every act ask for the code on the screen of the box.

mod gate;
mod page;
mod port;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use allerac_steward::{AskError, Order, Trouble, ask};
use anyhow::Context;
use axum::extract::{DefaultBodyLimit, Form, FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use gate::{Gate, Verdict};
use port::Peer;

/// The longest form, in bytes.
const FORM_BYTES_MAX: usize = 4 * 1024;
/// How long somebody may take to send the form.
const FORM_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two tries to start the server without anybody asking: what was wrong may have passed.
const TRY_EVERY: Duration = Duration::from_secs(15 * 60);
/// What is asked of the steward at once, for all browsers.
const ORDERS_MAX: usize = 2;
/// How long what the steward said of the trouble is told again: reloading a page does not keep the box busy.
const LOOK_KEPT: Duration = Duration::from_secs(5);
/// What is typed before everything is erased.
const ERASE: &str = "erase everything";
/// Paths of programs, which are answered in JSON.
const OF_PROGRAMS: [&str; 6] = ["/v1", "/api", "/healthz", "/readyz", "/claim", "/metrics"];

/// What every request can reach.
struct Page {
    gate: Gate,
    steward: PathBuf,
    orders: Semaphore,
    looked: tokio::sync::Mutex<Option<(Instant, Trouble)>>,
}

/// What somebody wants to be done.
#[derive(Deserialize)]
struct Wanted {
    code: String,
    act: Order,
    #[serde(default)]
    confirm: String,
}

/// Serves until it is told to stop.
///
/// # Errors
/// When the port is taken, or the screen's file cannot be written.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn serve(listen: SocketAddr, steward: PathBuf, screen: &Path) -> anyhow::Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let page = Arc::new(Page {
        gate: Gate::new(),
        steward,
        orders: Semaphore::new(ORDERS_MAX),
        looked: tokio::sync::Mutex::default(),
    });
    let words = page.look().await.map_or("The server does not start.", |trouble| trouble.cause.words());
    leave(screen, words, &page.gate.shown()).with_context(|| format!("cannot write {}", screen.display()))?;
    eprintln!("the emergency page is at http://{}", listener.local_addr()?);
    let trying = Arc::clone(&page);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(TRY_EVERY).await;
            if let Err(error) = trying.order(Order::Start).await {
                eprintln!("the server was not started: {error}");
            }
        }
    });
    let app = Router::new()
        .route("/", axum::routing::get(show).post(act))
        .fallback(show)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(page);
    tokio::select! {
        () = port::serve(&listener, &app) => {}
        _ = stop.recv() => {}
    }
    Ok(())
}

/// Leaves for the screen what it shows, whole or not at all.
fn leave(file: &Path, words: &str, code: &str) -> std::io::Result<()> {
    let partial = file.with_extension("partial");
    let mut written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    written.write_all(json!({"says": words, "code": code}).to_string().as_bytes())?;
    std::fs::rename(partial, file)
}

impl Page {
    async fn order(&self, order: Order) -> Result<Vec<u8>, AskError> {
        let _one = self.orders.acquire().await.expect("it is never closed");
        let steward = self.steward.clone();
        tokio::task::spawn_blocking(move || ask(&steward, order)).await.expect("asking does not panic")
    }

    async fn look(&self) -> Option<Trouble> {
        let mut looked = self.looked.lock().await;
        if let Some((_, trouble)) = looked.as_ref().filter(|(at, _)| at.elapsed() < LOOK_KEPT) {
            return Some(trouble.clone());
        }
        let told = self.order(Order::Look).await.ok()?;
        let trouble: Trouble = serde_json::from_slice(&told).ok()?;
        *looked = Some((Instant::now(), trouble.clone()));
        Some(trouble)
    }

    async fn tell(&self, status: StatusCode, told: Option<&str>) -> Response {
        let page = Html(page::render(self.look().await.as_ref(), told));
        (status, safe(), page).into_response()
    }
}

async fn show(State(page): State<Arc<Page>>, uri: Uri) -> Response {
    let is_of_program = OF_PROGRAMS.iter().any(|begin| uri.path().starts_with(begin));
    if is_of_program {
        let words = page.look().await.map_or("the server does not run", |trouble| trouble.cause.words());
        let error =
            json!({"error": {"message": words, "type": "server_error", "param": null, "code": "box_in_trouble"}});
        return (StatusCode::SERVICE_UNAVAILABLE, safe(), Json(error)).into_response();
    }
    page.tell(StatusCode::SERVICE_UNAVAILABLE, None).await
}

async fn act(State(page): State<Arc<Page>>, Extension(Peer(peer)): Extension<Peer>, request: Request) -> Response {
    let Ok(Ok(Form(wanted))) = tokio::time::timeout(FORM_TIME_MAX, Form::<Wanted>::from_request(request, &())).await
    else {
        return page.tell(StatusCode::BAD_REQUEST, Some("That is nothing that this page can do.")).await;
    };
    match page.gate.check(&wanted.code, peer, Instant::now()) {
        Verdict::Right => {}
        Verdict::Wrong => {
            let told = "That is not the code. The screen of the box shows it.";
            return page.tell(StatusCode::FORBIDDEN, Some(told)).await;
        }
        Verdict::Wait => {
            let told = "Too many tries. Wait a minute, then try again.";
            return page.tell(StatusCode::TOO_MANY_REQUESTS, Some(told)).await;
        }
    }
    let told = match wanted.act {
        Order::Logs => return logs(&page).await,
        Order::Start => "The server is being started. Reload this page in a minute.",
        Order::Back => "The box goes back to the version before, and starts again. That takes some minutes.",
        Order::FactoryReset if wanted.confirm.trim().eq_ignore_ascii_case(ERASE) => {
            "The box erases everything, and starts again as if it were new. That takes some minutes."
        }
        Order::FactoryReset => {
            let told = "Nothing was erased: type `erase everything` into the field beside the button.";
            return page.tell(StatusCode::BAD_REQUEST, Some(told)).await;
        }
        Order::Look | Order::Restart | Order::Check | Order::Update => {
            return page.tell(StatusCode::BAD_REQUEST, Some("That is nothing that this page can do.")).await;
        }
    };
    match page.order(wanted.act).await {
        Ok(_) => page.tell(StatusCode::OK, Some(told)).await,
        Err(error) => page.tell(StatusCode::CONFLICT, Some(&error.to_string())).await,
    }
}

async fn logs(page: &Page) -> Response {
    match page.order(Order::Logs).await {
        Ok(text) => {
            let mut headers = safe();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            let name = HeaderValue::from_static("attachment; filename=\"allerac.log\"");
            headers.insert(header::CONTENT_DISPOSITION, name);
            (headers, text).into_response()
        }
        Err(error) => page.tell(StatusCode::CONFLICT, Some(&error.to_string())).await,
    }
}

/// Headers of all answers: no scripts, no frames, nothing kept.
fn safe() -> HeaderMap {
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let all = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let named = |(name, value): (HeaderName, &'static str)| (name, HeaderValue::from_static(value));
    all.into_iter().map(named).collect()
}

//! `/v1/files`: what people bring, and what batches give.

use std::time::Duration;

use allerac_ledger::Principal;
use allerac_objects::{Kind, New, Object, Order, PIECE_BYTES, Piece, Store};
use allerac_wire::{Deleted, FileObject, ListPage, file_expiry};
use axum::Json;
use axum::body::Body;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::list::{Params, page};
use super::{KEPT_S, now_s};
use crate::auth::{Admitted, Authenticated};
use crate::error::ApiError;
use crate::state::AppState;

/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Bytes of a field of the form that is no file.
const FIELD_BYTES_MAX: usize = 1024;
/// Fields of the form.
const FIELDS_MAX: usize = 16;
/// Characters of a file's name that are kept.
const NAME_CHARS_MAX: usize = 255;
/// How long an upload may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Files on a page, as OpenAI's API has it.
pub(crate) const LIMIT_MAX: u64 = 10_000;
/// What files may be for here.
pub(crate) const PURPOSES: &[&str] = &["batch", "user_data", "assistants", "vision"];

/// A file, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct File {
    pub(crate) id: String,
    pub(crate) bytes: u64,
    pub(crate) created_at: i64,
    pub(crate) expires_at: Option<i64>,
    pub(crate) filename: String,
    pub(crate) purpose: String,
}

impl File {
    /// A file that is yet to be filled.
    pub(crate) fn new(filename: &str, purpose: &str) -> Self {
        Self {
            id: format!("file-{}", Uuid::now_v7().simple()),
            bytes: 0,
            created_at: now_s(),
            expires_at: None,
            filename: filename.chars().filter(|character| !character.is_control()).take(NAME_CHARS_MAX).collect(),
            purpose: purpose.to_owned(),
        }
    }

    /// A file of somebody's that is whole.
    pub(crate) async fn find(store: &Store, owner: u64, id: &str) -> Result<Self, ApiError> {
        let object = store.get(Kind::File, owner, id).await?;
        object.as_ref().and_then(Self::read).ok_or_else(|| ApiError::not_kept("file", id))
    }

    fn read(object: &Object) -> Option<Self> {
        if object.open { None } else { serde_json::from_slice(&object.head).ok() }
    }

    /// The object to keep; open until all of it is there.
    pub(crate) fn object(&self, owner: u64, open: bool) -> New {
        New {
            kind: Kind::File,
            owner,
            id: self.id.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            open,
            head: serde_json::to_vec(self).unwrap_or_default(),
            tail: None,
        }
    }

    /// As on the wire.
    fn told(self) -> FileObject {
        FileObject {
            id: self.id,
            object: "file",
            bytes: self.bytes,
            created_at: self.created_at,
            expires_at: self.expires_at,
            filename: self.filename,
            purpose: self.purpose,
            status: "processed",
            status_details: None,
        }
    }
}

/// Fills a file, piece by piece.
pub(crate) struct Filling<'a> {
    store: &'a Store,
    owner: u64,
    pub(crate) file: File,
    piece: Vec<u8>,
    pieces: u32,
    /// What their person may keep in all; what batches give them may come on top.
    bytes_max: Option<u64>,
}

impl<'a> Filling<'a> {
    pub(crate) async fn begin(
        store: &'a Store,
        owner: u64,
        file: File,
        bytes_max: Option<u64>,
    ) -> Result<Self, ApiError> {
        store.put_within(file.object(owner, true), bytes_max).await?;
        Ok(Self { store, owner, file, piece: Vec::new(), pieces: 0, bytes_max })
    }

    pub(crate) async fn add(&mut self, mut data: &[u8]) -> Result<(), ApiError> {
        self.file.bytes += data.len() as u64;
        while !data.is_empty() {
            let room = PIECE_BYTES - self.piece.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.piece.extend_from_slice(now);
            data = later;
            if self.piece.len() == PIECE_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Writes what is left. The object is yet to be kept as whole.
    pub(crate) async fn flush(&mut self) -> Result<(), ApiError> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        let of = (Kind::File, self.owner);
        let piece = Piece { number: self.pieces, mark: false, data: piece };
        self.store.put_piece(of, &self.file.id, piece, self.bytes_max).await?;
        self.pieces += 1;
        Ok(())
    }

    pub(crate) async fn give_up(self) {
        if let Err(error) = self.store.delete(Kind::File, self.owner, &self.file.id).await {
            tracing::warn!("an upload that did not end is deleted at the next start: {error}");
        }
    }
}

/// What the fields of the form said.
#[derive(Default)]
struct Form {
    purpose: Option<String>,
    anchor: Option<String>,
    seconds: Option<String>,
}

/// Takes a file.
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Authenticated,
    _admitted: Admitted,
    multipart: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Result<Json<FileObject>, ApiError> {
    let mut multipart =
        multipart.map_err(|_| ApiError::invalid_value("file", "send the file as a form (multipart/form-data)"))?;
    let mut form = Form::default();
    let mut filling = None;
    let taken = take(&mut multipart, (&state.store, &caller.0), &mut form, &mut filling).await;
    let Some(mut filling) = filling else {
        taken?;
        return Err(ApiError::missing("file"));
    };
    match finish(taken, &mut filling, form).await {
        Ok(file) => {
            // Whole now: its head is a few bytes longer than it was.
            if let Err(error) =
                state.store.put_within(file.object(caller.0.salt, false), caller.0.storage_bytes()).await
            {
                filling.give_up().await;
                return Err(error.into());
            }
            Ok(Json(file.told()))
        }
        Err(error) => {
            filling.give_up().await;
            Err(error)
        }
    }
}

async fn finish(taken: Result<(), ApiError>, filling: &mut Filling<'_>, form: Form) -> Result<File, ApiError> {
    taken?;
    let purpose = form.purpose.ok_or_else(|| ApiError::missing("purpose"))?;
    if !PURPOSES.contains(&purpose.as_str()) {
        let message = format!("`purpose` must be one of {}", PURPOSES.join(", "));
        return Err(ApiError::invalid_value("purpose", &message));
    }
    let kept_s = file_expiry(form.anchor.as_deref(), form.seconds.as_deref())?;
    filling.flush().await?;
    let mut file = filling.file.clone();
    // As OpenAI has it, files of batches go by themselves.
    let kept_s = kept_s.or_else(|| (purpose == "batch").then_some(KEPT_S));
    file.expires_at = kept_s.map(|seconds| file.created_at.saturating_add(seconds));
    file.purpose = purpose;
    Ok(file)
}

/// Reads the form. The file goes to the store as it comes.
async fn take<'a>(
    multipart: &mut Multipart,
    (store, caller): (&'a Store, &Principal),
    form: &mut Form,
    filling: &mut Option<Filling<'a>>,
) -> Result<(), ApiError> {
    for _ in 0..FIELDS_MAX {
        let field = in_time(multipart.next_field()).await?;
        let Some(mut field) = field else { return Ok(()) };
        match field.name().unwrap_or_default() {
            "file" if filling.is_none() => {
                let file = File::new(field.file_name().unwrap_or("file"), "");
                let filling = filling.insert(Filling::begin(store, caller.salt, file, caller.storage_bytes()).await?);
                while let Some(data) = in_time(field.chunk()).await? {
                    filling.add(&data).await?;
                    if filling.file.bytes > FILE_BYTES_MAX {
                        return Err(too_large());
                    }
                }
            }
            "purpose" => form.purpose = Some(text(field).await?),
            "expires_after[anchor]" => form.anchor = Some(text(field).await?),
            "expires_after[seconds]" => form.seconds = Some(text(field).await?),
            other => {
                let name: String = other.chars().take(64).collect();
                return Err(ApiError::invalid_value(
                    &name,
                    &format!("there is no parameter `{name}`, or it came twice"),
                ));
            }
        }
    }
    Err(ApiError::invalid_value("file", "the form has too many fields"))
}

fn too_large() -> ApiError {
    let message = format!("a file may have at most {FILE_BYTES_MAX} bytes; send it in parts");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "file_too_large", message)
}

async fn text(mut field: Field<'_>) -> Result<String, ApiError> {
    let name = field.name().unwrap_or_default().to_owned();
    let mut text = Vec::new();
    while let Some(data) = in_time(field.chunk()).await? {
        text.extend_from_slice(&data);
        if text.len() > FIELD_BYTES_MAX {
            return Err(ApiError::invalid_value(&name, &format!("`{name}` is too long")));
        }
    }
    String::from_utf8(text).map_err(|_| ApiError::invalid_value(&name, &format!("`{name}` is no text")))
}

async fn in_time<T, E>(part: impl Future<Output = Result<T, E>>) -> Result<T, ApiError> {
    let broken = |code, status, message| ApiError::new(status, "invalid_request_error", code, message);
    match tokio::time::timeout(SILENCE_MAX, part).await {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(_)) => Err(broken("invalid_body", StatusCode::BAD_REQUEST, "the form broke off, or is no form")),
        Err(_) => Err(broken("body_timeout", StatusCode::REQUEST_TIMEOUT, "nothing came for 30 seconds")),
    }
}

/// One of them.
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<FileObject>, ApiError> {
    Ok(Json(File::find(&state.store, caller.0.salt, &id).await?.told()))
}

/// Those of the caller, of one purpose where that is wanted.
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Authenticated,
    mut params: Params,
) -> Result<Json<ListPage<FileObject>>, ApiError> {
    let wanted = params.page(Order::Descending, LIMIT_MAX)?;
    let purpose = params.take("purpose");
    params.finish()?;
    let after = wanted.after.clone().unwrap_or_default();
    let fits = move |object: &Object| {
        File::read(object).is_some_and(|file| purpose.as_ref().is_none_or(|purpose| file.purpose == *purpose))
    };
    let listed = state.store.list(Kind::File, caller.0.salt, wanted, fits).await?;
    let listed = listed.ok_or_else(|| ApiError::not_kept("file", &after))?;
    let data: Vec<FileObject> = listed.objects.iter().filter_map(File::read).map(File::told).collect();
    Ok(page(data, listed.has_more, |file| &file.id))
}

/// Forgets it.
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, ApiError> {
    File::find(&state.store, caller.0.salt, &id).await?;
    state.store.delete(Kind::File, caller.0.salt, &id).await?;
    Ok(Json(Deleted { id, object: "file", deleted: true }))
}

/// What is in it, as it came.
pub(crate) async fn content(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let owner = caller.0.salt;
    let file = File::find(&state.store, owner, &id).await?;
    let store = state.store.clone();
    let stream = unfold((store, id, 0u64), move |(store, id, sent)| async move {
        if sent >= file.bytes {
            return None;
        }
        let number = u32::try_from(sent / PIECE_BYTES as u64).unwrap_or(u32::MAX);
        let gone = || std::io::Error::other("a piece of the file is damaged or was deleted");
        let piece = store.piece(Kind::File, owner, &id, number).await.ok().flatten().ok_or_else(gone);
        // A piece that is missing ends the connection: what came must not be taken for the whole.
        let sent = piece.as_ref().map_or(u64::MAX, |piece| sent + piece.len() as u64);
        Some((piece.map(Bytes::from), (store, id, sent)))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(file.bytes));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

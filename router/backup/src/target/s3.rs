//! An S3-compatible store, over signed requests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{CONTENT_LENGTH, ETAG};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode, Url};
use rusty_s3::actions::{
    AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, DeleteObject, GetObject, ListObjectsV2,
    PutObject, S3Action, UploadPart,
};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Stored;
use crate::error::BackupError;
use crate::name::Name;

/// How long a signed request is good for.
const SIGNED_FOR: Duration = Duration::from_secs(3600);
/// How long a connection, and silence on one, is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Parts that an upload may have, as S3 has it.
const PARTS_MAX: u64 = 10_000;
/// How often one request is tried again after a fault of network or server, and how long the first wait is.
const TRIES_MAX: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// What is told of a refusal, in characters.
const TOLD_CHARS_MAX: usize = 200;

/// Which store, and who we are there.
#[derive(Clone)]
pub struct S3Config {
    /// Its address.
    pub endpoint: String,
    /// Its region: `us-east-1` where it has none.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What names begin with, `boxes/` say.
    pub prefix: String,
    /// The bucket's name stands in the path, not before the host's.
    pub path_style: bool,
    /// The key's id.
    pub access_key: String,
    /// The key.
    pub secret_key: String,
    /// What is larger is sent in parts of so many bytes.
    pub part_bytes: u64,
}

/// What is sent with a request.
enum Content<'a> {
    None,
    Bytes(bytes::Bytes),
    File { path: &'a Path, bytes: u64 },
}

impl Content<'_> {
    async fn put_into(&self, request: RequestBuilder) -> Result<RequestBuilder, BackupError> {
        Ok(match self {
            Self::None => request,
            Self::Bytes(bytes) => request.body(bytes.clone()),
            Self::File { path, bytes } => {
                let file = File::open(path).await.map_err(BackupError::io("read", path))?;
                let body = Body::wrap_stream(tokio_util::io::ReaderStream::new(file));
                request.header(CONTENT_LENGTH, *bytes).body(body)
            }
        })
    }
}

#[derive(Clone)]
pub(super) struct S3 {
    bucket: Bucket,
    credentials: Credentials,
    client: Client,
    prefix: String,
    part_bytes: u64,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "S3({})", self.describe())
    }
}

impl S3 {
    pub(super) fn new(config: S3Config) -> Result<Self, BackupError> {
        let setting = |why: String| BackupError::Setting(format!("[backup.s3] cannot be like that: {why}"));
        let endpoint: Url = config.endpoint.parse().map_err(|error| setting(format!("endpoint: {error}")))?;
        let style = if config.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = Bucket::new(endpoint, style, config.bucket, config.region);
        let bucket = bucket.map_err(|error| setting(error.to_string()))?;
        let client = Client::builder().connect_timeout(SILENCE_MAX).read_timeout(SILENCE_MAX).build();
        let client = client.map_err(|error| setting(error.to_string()))?;
        let credentials = Credentials::new(config.access_key, config.secret_key);
        Ok(Self { bucket, credentials, client, prefix: config.prefix, part_bytes: config.part_bytes })
    }

    pub(super) fn describe(&self) -> String {
        format!("{}{}", self.bucket.base_url(), self.prefix)
    }

    fn key(&self, name: &Name) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Sends a request, again where that may help.
    async fn ask(
        &self,
        what: &'static str,
        method: Method,
        url: Url,
        content: Content<'_>,
    ) -> Result<Response, BackupError> {
        let mut wait = FIRST_WAIT;
        let mut tries = 0;
        loop {
            tries += 1;
            let request = content.put_into(self.client.request(method.clone(), url.clone())).await?;
            match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) if tries == TRIES_MAX || !answer.status().is_server_error() => {
                    return Err(self.refused(what, answer).await);
                }
                Err(error) if tries == TRIES_MAX => return Err(self.unreachable(&error)),
                _ => {}
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    async fn refused(&self, what: &'static str, answer: Response) -> BackupError {
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        let between = |tag: &str| {
            let (_, rest) = text.split_once(&format!("<{tag}>"))?;
            Some(rest.split_once('<')?.0.chars().take(TOLD_CHARS_MAX).collect::<String>())
        };
        let words = between("Code").into_iter().chain(between("Message")).collect::<Vec<_>>().join(", ");
        BackupError::Refused { place: self.describe(), what, why: format!("{status} {words}").trim_end().to_owned() }
    }

    fn unreachable(&self, error: &reqwest::Error) -> BackupError {
        // The address of a signed request is a key to it.
        let why =
            std::error::Error::source(error).map_or_else(|| "the connection broke".to_owned(), ToString::to_string);
        BackupError::Unreachable { place: self.describe(), why }
    }

    pub(super) async fn send(&self, file: &Path, name: &Name) -> Result<(), BackupError> {
        let bytes = file.metadata().map_err(BackupError::io("read", file))?.len();
        if bytes <= self.part_bytes {
            return self.send_whole(file, bytes, name).await;
        }
        let key = self.key(name);
        let create = CreateMultipartUpload::new(&self.bucket, Some(&self.credentials), &key);
        let answer = self.ask("begin an upload", Method::POST, create.sign(SIGNED_FOR), Content::None).await?;
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        let upload = CreateMultipartUpload::parse_response(&text).map_err(|error| self.unclear(&error))?;
        let sent = self.send_parts(file, bytes, &key, upload.upload_id()).await;
        if sent.is_err() {
            // Parts of an upload that is not ended are paid for.
            let abort = AbortMultipartUpload::new(&self.bucket, Some(&self.credentials), &key, upload.upload_id());
            let _ = self.client.delete(abort.sign(SIGNED_FOR)).send().await;
        }
        sent
    }

    async fn send_whole(&self, path: &Path, bytes: u64, name: &Name) -> Result<(), BackupError> {
        let key = self.key(name);
        let put = PutObject::new(&self.bucket, Some(&self.credentials), &key);
        let content = Content::File { path, bytes };
        self.ask("take a backup", Method::PUT, put.sign(SIGNED_FOR), content).await.map(drop)
    }

    async fn send_parts(&self, path: &Path, bytes: u64, key: &str, upload: &str) -> Result<(), BackupError> {
        let part_bytes = self.part_bytes.max(bytes.div_ceil(PARTS_MAX));
        let read = || BackupError::io("read", path);
        let mut file = File::open(path).await.map_err(read())?;
        let mut tags = Vec::new();
        for number in 1..=u16::try_from(bytes.div_ceil(part_bytes)).unwrap_or(u16::MAX) {
            let mut part = Vec::new();
            (&mut file).take(part_bytes).read_to_end(&mut part).await.map_err(read())?;
            let part = bytes::Bytes::from(part);
            let action = UploadPart::new(&self.bucket, Some(&self.credentials), key, number, upload);
            let url = action.sign(SIGNED_FOR);
            let answer = self.ask("take a part of a backup", Method::PUT, url, Content::Bytes(part)).await?;
            let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
            tags.push(tag.ok_or_else(|| self.unclear(&"a part has no tag"))?);
        }
        let tags = tags.iter().map(String::as_str);
        let complete = CompleteMultipartUpload::new(&self.bucket, Some(&self.credentials), key, upload, tags);
        let address = complete.sign(SIGNED_FOR);
        let content = Content::Bytes(complete.body().into());
        let answer = self.ask("end an upload", Method::POST, address, content).await?;
        // A store may find a fault only after it has begun to answer with 200.
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        if text.contains("<Error>") { Err(self.unclear(&"the upload was not ended")) } else { Ok(()) }
    }

    fn unclear(&self, why: &dyn std::fmt::Display) -> BackupError {
        BackupError::Refused { place: self.describe(), what: "answer as S3 does", why: why.to_string() }
    }

    pub(super) async fn list(&self) -> Result<Vec<Stored>, BackupError> {
        let mut stored = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut action = ListObjectsV2::new(&self.bucket, Some(&self.credentials));
            action.with_prefix(self.prefix.as_str());
            if let Some(next) = next.take() {
                action.with_continuation_token(next);
            }
            let answer = self.ask("list backups", Method::GET, action.sign(SIGNED_FOR), Content::None).await?;
            let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
            let page = ListObjectsV2::parse_response(&text).map_err(|error| self.unclear(&error))?;
            stored.extend(page.contents.iter().filter_map(|object| {
                let name = Name::parse(object.key.strip_prefix(&self.prefix)?)?;
                Some(Stored { name, bytes: object.size.unwrap_or(0) })
            }));
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(stored);
            }
        }
    }

    pub(super) async fn delete(&self, name: &Name) -> Result<(), BackupError> {
        let key = self.key(name);
        let action = DeleteObject::new(&self.bucket, Some(&self.credentials), &key);
        self.ask("delete a backup", Method::DELETE, action.sign(SIGNED_FOR), Content::None).await.map(drop)
    }

    pub(super) async fn bring(&self, name: &Name, work: &Path) -> Result<PathBuf, BackupError> {
        let key = self.key(name);
        let action = GetObject::new(&self.bucket, Some(&self.credentials), &key);
        let got = self.ask("give a backup", Method::GET, action.sign(SIGNED_FOR), Content::None).await;
        let answer = got.map_err(|error| match error {
            BackupError::Refused { why, .. } if why.starts_with(StatusCode::NOT_FOUND.as_str()) => {
                BackupError::Unknown { name: name.to_string(), place: self.describe() }
            }
            other => other,
        })?;
        let path = work.join(name.to_string());
        let write = || BackupError::io("write", &path);
        let mut file = File::create_new(&path).await.map_err(write())?;
        let mut content = answer.bytes_stream();
        while let Some(piece) = content.next().await {
            file.write_all(&piece.map_err(|error| self.unreachable(&error))?).await.map_err(write())?;
        }
        file.flush().await.map_err(write())?;
        Ok(path)
    }
}

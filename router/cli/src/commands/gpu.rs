//! `allerac gpu`: which graphics processors there are, what is on them; takes models off one, and back on.

use std::time::Duration;

use allerac_engine_link::{GpuDevice, gpu_module, list_gpus};
use allerac_http::{DeviceObject, GpuObject, Pass, ShareObject};
use reqwest::{Client, Method, StatusCode};

use crate::args::Place;
use crate::args::gpu::{Gpu, GpuCommand, GpuServer};
use crate::config::ConfigFile;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, bytes, print_json, print_line};
use crate::{secret, setup};

/// A server that takes longer is as good as none.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// How often to look whether models have left.
const LOOK_EVERY: Duration = Duration::from_millis(300);

pub(crate) async fn run(args: &Gpu, place: &Place) -> Result<(), Failure> {
    match &args.command {
        None => show(args, place).await,
        Some(GpuCommand::Eject(change)) => eject(&change.server, place).await,
        Some(GpuCommand::Use(change)) => use_again(&change.server, place).await,
    }
}

async fn show(args: &Gpu, place: &Place) -> Result<(), Failure> {
    let gpu = match ask(&args.server, place, Method::GET, "").await {
        // Nobody need serve for it to be there.
        Err(Asked::Unreachable(_)) if args.server.key.is_none() => without_server(&args.server).await?,
        asked => asked?,
    };
    if args.json { Ok(print_json(&gpu)?) } else { print(&gpu) }
}

async fn eject(server: &GpuServer, place: &Place) -> Result<(), Failure> {
    let mut gpu = ask(server, place, Method::POST, "/eject").await?;
    let mut is_told = false;
    while matches!(gpu.status.as_str(), "looking" | "ejecting") {
        if !is_told && gpu.status == "ejecting" {
            let models: Vec<&str> = gpu.models.iter().map(|placed| placed.model.as_str()).collect();
            print_line(&format!("waiting for what runs on {} to end", models.join(", ")))?;
            is_told = true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        gpu = ask(server, place, Method::GET, "").await?;
    }
    match gpu.status.as_str() {
        "ejected" | "absent" => Ok(print_line("nothing is on the graphics processor any more: it can be unplugged")?),
        status => Err(Failure::new(Exit::Conflict, format!("there is nothing to eject: {}", words(status)))),
    }
}

async fn use_again(server: &GpuServer, place: &Place) -> Result<(), Failure> {
    let mut gpu = ask(server, place, Method::POST, "/use").await?;
    while gpu.status == "looking" {
        tokio::time::sleep(LOOK_EVERY).await;
        gpu = ask(server, place, Method::GET, "").await?;
    }
    if gpu.status == "ready" {
        return Ok(print_line("models are loaded onto the graphics processor from now on")?);
    }
    let reason = gpu.reason.map_or_else(String::new, |reason| format!(": {reason}"));
    Err(Failure::new(Exit::Conflict, format!("{}{reason}", words(&gpu.status))))
}

/// Why there is no answer.
enum Asked {
    Unreachable(Failure),
    Refused(Failure),
}

impl From<Asked> for Failure {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Unreachable(failure) | Asked::Refused(failure) => failure,
        }
    }
}

async fn ask(server: &GpuServer, place: &Place, method: Method, what: &str) -> Result<GpuObject, Asked> {
    let url = server.url.as_str().trim_end_matches('/');
    let opener = match server.key.clone().filter(|key| !key.is_empty()) {
        Some(key) => key,
        None => {
            let secret = secret::of_server(&server.url, place).map_err(Asked::Unreachable)?;
            Pass::to_gpu(&secret).issue(jiff::Timestamp::now().as_second())
        }
    };
    let unreachable = |error: &reqwest::Error| {
        let why = if error.is_timeout() { "answers in time" } else { "answers" };
        Asked::Unreachable(
            Failure::new(Exit::Failure, format!("no server {why} at {url}"))
                .hint("start it with `allerac serve`, or say where it is with --url"),
        )
    };
    let client = Client::builder().timeout(ANSWER_TIME_MAX).no_proxy().build().map_err(|error| unreachable(&error))?;
    let request = client.request(method, format!("{url}/v1/admin/gpu{what}")).bearer_auth(opener);
    let response = request.send().await.map_err(|error| unreachable(&error))?;
    let refused = |text: String, hint: &str| Asked::Refused(Failure::new(Exit::Conflict, text).hint(hint));
    match response.status() {
        StatusCode::OK => response.json().await.map_err(|error| unreachable(&error)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refused(
            format!("{url} does not let its graphics processor be seen to"),
            "name the server's own --data-dir, or a key of its owner with --key",
        )),
        status => Err(refused(format!("{url} answered with {status}"), "is it an Allerac server of this version?")),
    }
}

/// What there is while nobody serves.
async fn without_server(server: &GpuServer) -> Result<GpuObject, Failure> {
    let config = ConfigFile::load(server.config.as_deref())?;
    let binary = setup::engine_binary(&config)?;
    let gpu = |status: &str, reason, devices| GpuObject {
        object: "gpu".to_owned(),
        status: status.to_owned(),
        reason,
        retry_in_seconds: None,
        devices,
        models: Vec::new(),
    };
    let Some(module) = gpu_module(&binary) else { return Ok(gpu("no_module", None, Vec::new())) };
    Ok(match list_gpus(&binary, &module).await {
        Ok(devices) => gpu("no_server", None, devices.into_iter().map(device).collect()),
        Err(reason) => gpu("no_server", Some(reason), Vec::new()),
    })
}

fn device(device: GpuDevice) -> DeviceObject {
    let GpuDevice { name, description, is_integrated, memory_bytes, free_bytes } = device;
    DeviceObject { name, description, is_integrated, is_used: false, memory_bytes, free_bytes }
}

fn print(gpu: &GpuObject) -> Result<(), Failure> {
    let retry = gpu.retry_in_seconds.map_or_else(String::new, |seconds| format!(", and is tried again in {seconds} s"));
    let reason = gpu.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    print_line(&format!("{}{retry}{reason}", words(&gpu.status)))?;
    if !gpu.devices.is_empty() {
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("IS", Align::Left),
            ("MEMORY", Align::Right),
            ("FREE", Align::Right),
            ("USED", Align::Left),
        ]);
        for device in &gpu.devices {
            let used = match (device.is_used, device.is_integrated) {
                (true, _) => "yes",
                (false, true) => "no, it shares memory with the processor",
                (false, false) => "no",
            };
            table.row(vec![
                device.name.clone(),
                device.description.clone(),
                bytes(device.memory_bytes),
                bytes(device.free_bytes),
                used.to_owned(),
            ]);
        }
        table.print()?;
    }
    for placed in &gpu.models {
        print_line(&format!("{}: {}, {}", placed.model, share(&placed.share), bytes(placed.share.bytes)))?;
    }
    Ok(())
}

/// How much of a model is on a graphics processor.
pub(crate) fn share(share: &ShareObject) -> String {
    let ShareObject { layers, layers_max, cpu_expert_layers, .. } = *share;
    match (layers == layers_max, cpu_expert_layers) {
        (true, 0) => "all of it".to_owned(),
        (true, kept) => format!("all but the experts of {kept} of {} layers", layers_max - 1),
        (false, _) => format!("{layers} of {layers_max} layers"),
    }
}

/// What a status means.
fn words(status: &str) -> &str {
    match status {
        "ready" => "models are loaded onto the graphics processor",
        "ejecting" => "answers end that are computed on the graphics processor",
        "ejected" => "the graphics processor was ejected; `allerac gpu use` uses it again",
        "failed" => "the graphics processor failed",
        "absent" => "there is no graphics processor with memory of its own that can be used",
        "looking" => "it is not known yet which graphics processors there are",
        "off" => "the configuration file says that none is used ([engine] gpu)",
        "no_module" => "llama.cpp's module for graphics processors is not installed; `make gpu` builds it",
        "no_server" => "no server runs",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_in_words() {
        let told =
            |layers, cpu_expert_layers| share(&ShareObject { layers, layers_max: 49, cpu_expert_layers, bytes: 0 });
        assert_eq!(told(49, 0), "all of it");
        assert_eq!(told(49, 30), "all but the experts of 30 of 48 layers");
        assert_eq!(told(12, 0), "12 of 49 layers");
    }
}

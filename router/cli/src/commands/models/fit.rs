//! What models would take on this machine, and how fast they would be.

use std::path::Path;

use allerac_engine_link::{EngineSettings, GpuMode, choose_gpu, gpu_module, list_gpus};
use allerac_hardware::{BANDWIDTH_BYTES, bandwidth, compute};
use allerac_http::ShareObject;
use allerac_models::fit::{Asked, Facts, Needed, Plan, Rates, Speed, verdict};
use allerac_models::{Catalogue, Header, ModelKind, all_parts};
use serde::Serialize;

use super::{installed, order};
use crate::args::{ModelsFit, Place};
use crate::commands::gpu::share;
use crate::config::ConfigFile;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, bytes, print_json, print_line};
use crate::setup;
use crate::tuned::Tuned;

/// A model, and what is predicted of it.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    /// What the process cannot do without, with the conversations that the settings allow.
    memory_bytes: u64,
    mapped_bytes: u64,
    kv_bytes: u64,
    /// What of it the graphics processor would have; null where there is none, or nothing fits.
    gpu: Option<ShareObject>,
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    verdict: &'static str,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Report {
    /// What models may have together.
    memory_bytes: u64,
    /// What is free on the graphics processor.
    gpu_bytes: Option<u64>,
    measured: Vec<Measured>,
    models: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Measured {
    threads: u32,
    gigabytes_per_second: f64,
    /// Multiplications and additions, in units of 10^9.
    products_per_second: f64,
}

pub(super) async fn run(args: &ModelsFit, place: &Place) -> Result<(), Failure> {
    let candidates = candidates(args.model.as_deref(), place)?;
    let config = ConfigFile::load(args.setup.config.as_deref())?;
    let probe = allerac_hardware::probe();
    let profile = setup::profile(&args.setup, &config, &probe)?;
    let tuned = Tuned::load(&place.data_dir()?, &probe);
    let settings = setup::settings(&config, &profile, &probe, &tuned)?;
    let plan = allerac_router_core::plan(&settings);
    let memory_bytes = config.models.memory(allerac_hardware::memory().total_bytes).budget_bytes;
    let gpu = gpu_bytes(&config, &settings).await;
    let rates = rates(settings.threads.max(1));
    let measured = rates.iter().map(Measured::from).collect();
    let asked = Asked { layers: settings.gpu_layers };
    let predicted = |(id, facts): (String, Facts)| Row {
        gpu: gpu.and_then(|free| facts.split(&plan, free, asked)).map(ShareObject::from),
        ..row(id, &facts, &plan, &rates, memory_bytes)
    };
    let models = candidates.into_iter().map(predicted).collect();
    let report = Report { memory_bytes, gpu_bytes: gpu, measured, models };
    if args.json { Ok(print_json(&report)?) } else { print(&report) }
}

/// What is free on the graphics processor that models are loaded onto.
async fn gpu_bytes(config: &ConfigFile, settings: &EngineSettings) -> Option<u64> {
    let binary = setup::engine_binary(config).ok().filter(|_| settings.gpu != GpuMode::Off)?;
    let devices = list_gpus(&binary, &gpu_module(&binary)?).await.ok()?;
    choose_gpu(&devices, settings.gpu).map(|device| device.free_bytes)
}

impl From<&Rates> for Measured {
    fn from(rates: &Rates) -> Self {
        Self {
            threads: rates.threads,
            gigabytes_per_second: tenth(rates.bytes_per_second / 1e9),
            products_per_second: tenth(rates.products_per_second / 1e9),
        }
    }
}

/// More digits mean nothing.
fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// One thread, and as many as engines compute with.
pub(crate) fn rates(threads: u32) -> Vec<Rates> {
    let mut counts = vec![1, threads];
    counts.dedup();
    let one = |threads| Rates {
        threads,
        bytes_per_second: bandwidth(threads, BANDWIDTH_BYTES).gigabytes_per_second * 1e9,
        products_per_second: compute(threads) * 1e9,
    };
    counts.into_iter().map(one).collect()
}

/// The models asked for, with what is known of them.
fn candidates(model: Option<&str>, place: &Place) -> Result<Vec<(String, Facts)>, Failure> {
    let unknown = |id: &str| {
        Failure::new(Exit::NotFound, format!("what {id} would take is not known before it is fetched"))
            .hint("its layers are not in the catalogue; encoders are small")
    };
    let Some(name) = model else {
        let chats = Catalogue::builtin().entries().iter().filter(|entry| entry.kind == ModelKind::Chat);
        let known = chats.filter_map(|entry| Some((entry.id.clone(), Facts::of_entry(entry)?)));
        return Ok(known.collect());
    };
    let here = installed(place)?.into_iter().find(|model| model.id == name);
    if let Some(model) = here {
        if let Some(base) = &model.base {
            return Err(Failure::new(Exit::Usage, format!("{name} is an adapter; it runs wherever its model does"))
                .hint(format!("allerac models fit {base}")));
        }
        return Ok(vec![(name.to_owned(), of_files(&model.paths())?)]);
    }
    if Path::new(name).is_file() {
        return Ok(vec![(name.to_owned(), of_files(&all_parts(Path::new(name)))?)]);
    }
    let entry = order(name)?;
    let facts = Facts::of_entry(&entry).ok_or_else(|| unknown(name))?;
    Ok(vec![(entry.id, facts)])
}

/// Of a model in these files, in order.
fn of_files<P: AsRef<Path>>(files: &[P]) -> Result<Facts, Failure> {
    let first = files[0].as_ref();
    let broken = |reason: String| Failure::new(Exit::Failure, format!("{} cannot be used: {reason}", first.display()));
    let length = |path: &P| path.as_ref().metadata().map(|metadata| metadata.len());
    let lengths = files.iter().map(length).collect::<Result<Vec<u64>, _>>();
    let file_bytes = lengths.map_err(|error| Failure::from_io("read", first, &error))?.into_iter().sum();
    let header = Header::read_all(files).map_err(|error| broken(error.to_string()))?;
    Facts::of_header(&header, file_bytes)
        .ok_or_else(|| broken("its header does not say how large its layers are".to_owned()))
}

fn row(id: String, facts: &Facts, plan: &Plan, rates: &[Rates], memory_bytes: u64) -> Row {
    let (needed, speed) = (facts.needed(plan), facts.speed(rates));
    let (verdict, reason) = verdict(&needed, memory_bytes, &speed);
    let Needed { mapped, kv, .. } = needed;
    let Speed { prefill, decode } = speed;
    Row {
        id,
        memory_bytes: needed.lasting(),
        mapped_bytes: mapped,
        kv_bytes: kv,
        gpu: None,
        prefill_tokens_per_second: tenth(prefill),
        decode_tokens_per_second: tenth(decode),
        verdict: verdict.name(),
        reason,
    }
}

fn print(report: &Report) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("MEMORY", Align::Right),
        ("GPU", Align::Left),
        ("PROMPT/s", Align::Right),
        ("ANSWER/s", Align::Right),
        ("VERDICT", Align::Left),
        ("BECAUSE", Align::Left),
    ]);
    for row in &report.models {
        table.row(vec![
            row.id.clone(),
            bytes(row.memory_bytes),
            row.gpu.as_ref().map_or_else(|| "-".to_owned(), share),
            format!("{:.0}", row.prefill_tokens_per_second),
            format!("{:.1}", row.decode_tokens_per_second),
            row.verdict.to_owned(),
            row.reason.clone(),
        ]);
    }
    table.print()?;
    if let Some(free) = report.gpu_bytes {
        print_line(&format!("free on the graphics processor: {}; speeds are those without it", bytes(free)))?;
    }
    for Measured { threads, gigabytes_per_second, products_per_second } in &report.measured {
        print_line(&format!(
            "measured on {threads} threads: {gigabytes_per_second} GB/s of memory, {products_per_second} billion products a second"
        ))?;
    }
    Ok(())
}

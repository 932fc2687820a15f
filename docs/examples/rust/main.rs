//! Asks the box, and prints the answer while it comes. Needs ALLERAC_URL (`http://allerac.local`) and ALLERAC_KEY.
//!
//! cargo add anyhow serde_json tokio --features tokio/full; cargo add reqwest --features json

use std::env::var;
use std::io::{Write, stdout};

use serde_json::{Value, json};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let request = json!({
        "model": var("ALLERAC_MODEL").unwrap_or_else(|_| "smollm2-135m-instruct".into()),
        "messages": [{"role": "user", "content": "Name a color."}],
        "max_tokens": 32,
        "stream": true,
    });
    let url = format!("{}/v1/chat/completions", var("ALLERAC_URL")?);
    let client = reqwest::Client::new();
    let mut response =
        client.post(url).bearer_auth(var("ALLERAC_KEY")?).json(&request).send().await?.error_for_status()?;
    let mut received = Vec::new();
    while let Some(piece) = response.chunk().await? {
        received.extend_from_slice(&piece);
        while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            let data = std::str::from_utf8(&line)?.trim_end().strip_prefix("data: ");
            let Some(chunk) = data.and_then(|data| serde_json::from_str::<Value>(data).ok()) else { continue };
            print!("{}", chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
            stdout().flush()?;
        }
    }
    println!();
    Ok(())
}

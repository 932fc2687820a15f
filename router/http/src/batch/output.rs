//! Writes the files that a batch gives, when all of its lines have been dealt with.

use allerac_objects::{Kind, Store};
use serde_json::Value;

use super::record::{Record, Usage};
use crate::error::ApiError;
use crate::handlers::files::{File, Filling};

/// Writes the output and the errors, and keeps them with the record as `end` makes it: all of that, or nothing.
pub(crate) async fn write(
    store: &Store,
    owner: u64,
    record: &mut Record,
    end: impl FnOnce(&mut Record),
) -> Result<(), ApiError> {
    let pieces = store.pieces(Kind::Batch, owner, &record.id).await?;
    record.usage = Usage::default();
    let mut objects = Vec::new();
    for (failed, suffix) in [(false, "output"), (true, "error")] {
        let numbers: Vec<u32> = pieces.iter().filter(|(_, mark)| *mark == failed).map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            continue;
        }
        let file = File::new(&format!("{}_{suffix}.jsonl", record.id), "batch_output");
        let mut filling = Filling::begin(store, owner, file, None).await?;
        for number in numbers {
            let Some(mut line) = store.piece(Kind::Batch, owner, &record.id, number).await? else { continue };
            let value: Value = serde_json::from_slice(&line).unwrap_or_default();
            record.usage.add(&value["response"]["body"]["usage"]);
            line.push(b'\n');
            filling.add(&line).await?;
        }
        filling.flush().await?;
        let mut file = filling.file;
        file.expires_at = Some(file.created_at.saturating_add(record.kept_s));
        objects.push(file.object(owner, false));
        *(if failed { &mut record.error_file_id } else { &mut record.output_file_id }) = Some(file.id);
    }
    end(record);
    objects.push(record.object(owner));
    store.put_all(objects).await?;
    store.delete_pieces(Kind::Batch, owner, &record.id).await?;
    Ok(())
}

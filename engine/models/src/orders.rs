//! Downloads that were ordered and are not through: remembered, so that they go on after a restart.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::error::ModelsError;
use crate::order::check_name;
use crate::record::write_whole;
use crate::store::Store;

/// A download that somebody ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What the model will be called here.
    pub id: String,
    /// By which name it was ordered: of the catalogue, or of a hub.
    pub name: String,
}

impl Store {
    /// Remembers an order, also when the power fails.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remember(&self, order: &Order) -> Result<(), ModelsError> {
        check_name(&order.id)?;
        let folder = self.orders_path();
        fs::create_dir_all(&folder).map_err(ModelsError::file("create", &folder))?;
        let text = toml::to_string(order).map_err(|error| ModelsError::Catalogue(error.to_string()))?;
        write_whole(&folder.join(format!("{}.toml", order.id)), text)
    }

    /// Forgets an order that is through, or not wanted any more.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn settle(&self, id: &str) -> Result<(), ModelsError> {
        let path = self.orders_path().join(format!("{id}.toml"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ModelsError::file("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// The orders that are not through. What cannot be read is left out with a warning.
    ///
    /// # Errors
    /// When the folder is there but cannot be read.
    pub fn orders(&self) -> Result<Vec<Order>, ModelsError> {
        let folder = self.orders_path();
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut orders = Vec::new();
        for entry in fs::read_dir(&folder).map_err(ModelsError::file("read", &folder))? {
            let path = entry.map_err(ModelsError::file("read", &folder))?.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let read = fs::read_to_string(&path).map_err(|error| error.to_string());
            match read.and_then(|text| toml::from_str(&text).map_err(|error| error.to_string())) {
                Ok(order) => orders.push(order),
                Err(error) => tracing::warn!("{} is left out: {error}", path.display()),
            }
        }
        orders.sort_by(|a: &Order, b| a.id.cmp(&b.id));
        Ok(orders)
    }

    fn orders_path(&self) -> std::path::PathBuf {
        self.root().join("orders")
    }
}

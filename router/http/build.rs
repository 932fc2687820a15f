//! The page is built by npm, never from here; this only says so when it is missing.

fn main() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/dist/index.html");
    println!("cargo::rerun-if-changed={page}");
    if !std::path::Path::new(page).exists() {
        println!("cargo::error=the page is not built yet: run `make web`");
    }
}

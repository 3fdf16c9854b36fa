//! Pages: what browsers load, held in the program.
//!
//! Shape: paths in, files out, with the hash of the whole as their tag.

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::problem::Problem;

/// A file that the program holds.
struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const STYLE: &str = "text/css; charset=utf-8";

macro_rules! asset {
    ($path:literal, $kind:expr, $file:literal) => {
        Asset { path: $path, kind: $kind, bytes: include_bytes!(concat!("web/", $file)) }
    };
}

/// Everything there is.
const ASSETS: &[Asset] = &[
    asset!("/", HTML, "journal.html"),
    asset!("/boards/groups", HTML, "groups.html"),
    asset!("/boards/teachers", HTML, "teachers.html"),
    asset!("/tail", HTML, "tail.html"),
    asset!("/people", HTML, "people.html"),
    asset!("/operations", HTML, "operations.html"),
    asset!("/assets/board.js", SCRIPT, "board.js"),
    asset!("/assets/cells.js", SCRIPT, "cells.js"),
    asset!("/assets/chart.js", SCRIPT, "chart.js"),
    asset!("/assets/common.js", SCRIPT, "common.js"),
    asset!("/assets/dom.js", SCRIPT, "dom.js"),
    asset!("/assets/format.js", SCRIPT, "format.js"),
    asset!("/assets/grid.js", SCRIPT, "grid.js"),
    asset!("/assets/groups.js", SCRIPT, "groups.js"),
    asset!("/assets/header.js", SCRIPT, "header.js"),
    asset!("/assets/journal.js", SCRIPT, "journal.js"),
    asset!("/assets/menu.js", SCRIPT, "menu.js"),
    asset!("/assets/operations.js", SCRIPT, "operations.js"),
    asset!("/assets/people.js", SCRIPT, "people.js"),
    asset!("/assets/picks.js", SCRIPT, "picks.js"),
    asset!("/assets/tail.js", SCRIPT, "tail.js"),
    asset!("/assets/teachers.js", SCRIPT, "teachers.js"),
    asset!("/assets/journal.css", STYLE, "journal.css"),
    asset!("/assets/pages.css", STYLE, "pages.css"),
    asset!("/assets/style.css", STYLE, "style.css"),
    asset!("/assets/icon.svg", "image/svg+xml", "icon.svg"),
    // Charts: Apache ECharts, as its package brings it.
    asset!("/assets/vendor/echarts.common.min.js", SCRIPT, "vendor/echarts.common.min.js"),
];

/// The routes of all pages.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.iter().fold(Router::new(), |routes, asset| {
        routes.route(
            asset.path,
            get(move |headers: HeaderMap| async move { answer(asset, &headers) }),
        )
    })
}

/// A file, or that the browser has it already.
fn answer(asset: &Asset, headers: &HeaderMap) -> Response {
    let tag = format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(asset.bytes));
    let has = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let told = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if has.is_some_and(|has| has.split(',').any(|one| one.trim() == tag)) {
        return (StatusCode::NOT_MODIFIED, told).into_response();
    }
    (told, [(header::CONTENT_TYPE, asset.kind)], asset.bytes).into_response()
}

/// What is asked for is no page and no part of the API.
pub async fn nothing() -> Problem {
    Problem::not_found("there is nothing here; the API is described at /v1/openapi.json")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_file_is_served_and_pages_name_only_what_is() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/web");
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let files = names(&folder).len() - 1 + names(&folder.join("vendor")).len() - 1;
        assert_eq!(ASSETS.len(), files, "all but the folder of others' work and its licence");
        let is_served = |path: &str| ASSETS.iter().any(|asset| asset.path == path);
        for asset in ASSETS.iter().filter(|asset| asset.kind == HTML) {
            let text = str::from_utf8(asset.bytes).unwrap();
            for attribute in ["src=\"", "href=\""] {
                for path in text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next())
                {
                    assert!(path.starts_with('#') || is_served(path), "{}: {path}", asset.path);
                }
            }
        }
    }
}

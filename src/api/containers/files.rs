//! `/containers/{id}/archive`: files in and out, as tar streams that are never held.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::api::backend::Refusal;
use crate::api::backend::containers::Container;
use crate::api::error::Handled;
use crate::api::query::Params;
use crate::api::router::Api;
use crate::model::Timestamp;
use crate::model::container::PathStat;

/// Says what the path is, as JSON in base 64.
const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

type Operation = BoxFuture<'static, Handled>;

/// What [`STAT`] says.
#[derive(Serialize)]
struct StatDto<'a> {
    name: &'a str,
    size: u64,
    mode: u32,
    mtime: Timestamp,
    #[serde(rename = "linkTarget")]
    link_target: &'a str,
}

/// `HEAD /containers/{id}/archive`.
pub(super) fn head(api: Api, container: Container, request: Request) -> Operation {
    Box::pin(async move {
        let path = path(&request)?;
        let stat = api
            .backend
            .containers()
            .stat_path(container.config.id, &path)
            .await?;
        Ok((StatusCode::OK, [(STAT, told(&stat)?)]).into_response())
    })
}

/// `GET /containers/{id}/archive`.
pub(super) fn read(api: Api, container: Container, request: Request) -> Operation {
    Box::pin(async move {
        let path = path(&request)?;
        let packed = api
            .backend
            .containers()
            .archive_out(container.config.id, &path)
            .await?;
        let (stat, tar) = packed;
        let headers = [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-tar"),
            ),
            (STAT, told(&stat)?),
        ];
        Ok((headers, Body::from_stream(ReaderStream::new(tar))).into_response())
    })
}

/// `PUT /containers/{id}/archive`.
pub(super) fn write(api: Api, container: Container, request: Request) -> Operation {
    Box::pin(async move {
        let path = path(&request)?;
        let body = request.into_body().into_data_stream();
        let tar = StreamReader::new(body.map_err(std::io::Error::other));
        let unpacked = api.backend.containers();
        unpacked
            .archive_in(container.config.id, &path, Box::new(Box::pin(tar)))
            .await?;
        Ok(StatusCode::OK.into_response())
    })
}

fn path(request: &Request) -> Result<String, Refusal> {
    let params = Params::of(request.uri())?;
    match params.text("path") {
        "" => Err(Refusal::invalid("bad parameter: path: cannot be empty")),
        path => Ok(path.to_owned()),
    }
}

fn told(stat: &PathStat) -> Result<HeaderValue, Refusal> {
    let told = StatDto {
        name: &stat.name,
        size: stat.size,
        mode: go_mode(stat.mode),
        mtime: stat.modified,
        link_target: &stat.link_target,
    };
    let json = serde_json::to_vec(&told).map_err(|error| Refusal::internal(error.to_string()))?;
    HeaderValue::from_str(&BASE64_STANDARD.encode(json))
        .map_err(|error| Refusal::internal(error.to_string()))
}

/// Kind and permissions as Go's `os.FileMode` has them.
const fn go_mode(mode: u32) -> u32 {
    use nix::libc::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFSOCK};
    let kind = match mode & S_IFMT {
        S_IFDIR => 1 << 31,
        S_IFLNK => 1 << 27,
        S_IFBLK => 1 << 26,
        S_IFIFO => 1 << 25,
        S_IFSOCK => 1 << 24,
        S_IFCHR => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let set_user = if mode & 0o4000 != 0 { 1 << 23 } else { 0 };
    let set_group = if mode & 0o2000 != 0 { 1 << 22 } else { 0 };
    let sticky = if mode & 0o1000 != 0 { 1 << 20 } else { 0 };
    kind | set_user | set_group | sticky | mode & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_told_as_go_has_them() {
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o040_755), 1 << 31 | 0o755);
        assert_eq!(go_mode(0o120_777), 1 << 27 | 0o777);
        assert_eq!(go_mode(0o041_777), 1 << 31 | 1 << 20 | 0o777);
    }
}

//! What the name of an image stands for, asked of the machine's images for a client.

use super::engine::{Engine, EngineState};
use super::join::reason;
use crate::agent::images::{Described, PullError, RegistryAuth};
use crate::api::backend::{Distribution, ImagePlatform, Refusal, RefusalClass};

/// Answers [`Backend::distribution`](crate::api::backend::Backend::distribution).
pub async fn of(engine: &Engine, image: &str, auth: &str) -> Result<Distribution, Refusal> {
    let Some(images) = engine.images() else {
        return Err(Refusal::unavailable(match &*engine.state().borrow() {
            EngineState::Failed(why) => format!("no images can be had here: {why}"),
            EngineState::Starting | EngineState::Ready(_) => {
                "no images can be had here yet: try again".into()
            }
        }));
    };
    let auth = RegistryAuth::from_header(auth).map_err(|error| refusal(&error.into()))?;
    let described = images.describe(image, auth.as_ref()).await;
    described.map(shown).map_err(|error| refusal(&error))
}

fn shown(described: Described) -> Distribution {
    let platforms = described.platforms.into_iter().map(|one| ImagePlatform {
        architecture: one.architecture,
        os: one.os,
        variant: one.variant,
    });
    Distribution {
        media_type: described.target.media_type,
        digest: described.target.digest.to_string(),
        size: described.target.size,
        platforms: platforms.collect(),
    }
}

fn refusal(error: &PullError) -> Refusal {
    let class = match error {
        PullError::Reference(_) | PullError::Auth(_) => RefusalClass::Invalid,
        PullError::Denied { .. } => RefusalClass::Forbidden,
        PullError::Unauthorized { .. } => RefusalClass::Unauthorized,
        PullError::Unknown { .. } => RefusalClass::NotFound,
        PullError::Unreachable { .. }
        | PullError::Registry { .. }
        | PullError::NoPlatform(_)
        | PullError::WrongPlatform { .. }
        | PullError::WrongContent(_)
        | PullError::WrongManifest(_)
        | PullError::WrongDiff { .. }
        | PullError::Cut(_)
        | PullError::Manifest(_)
        | PullError::Config(_)
        | PullError::DiskFull { .. }
        | PullError::Store(_) => RefusalClass::Internal,
    };
    // The cause of one that is not reached is in its own words.
    let words = match error {
        PullError::Unreachable { .. } => error.to_string(),
        other => reason(other),
    };
    Refusal::new(class, words)
}

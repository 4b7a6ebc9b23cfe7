//! One voter, and three.

use super::super::fixtures::{Stores, first, id, put};
use super::super::{BootstrapError, ProposeError};

#[tokio::test]
async fn one_voter_writes_and_reads() {
    let stores = Stores::voters(1).await;
    let version = stores.write(7).await;
    assert_eq!(version, 2);
    let state = stores.store(1).read().await.unwrap();
    assert_eq!(state.version, 2);
    assert!(state.nodes.contains_key(&id(7)));
    assert!(matches!(
        stores.store(1).bootstrap(first()).await,
        Err(BootstrapError::AlreadyMember)
    ));
    stores.end().await;
}

#[tokio::test]
async fn three_voters_agree_and_a_follower_refers_to_the_leader() {
    let stores = Stores::voters(3).await;
    for number in 10..20 {
        stores.write(number).await;
    }
    let refused = stores.store(2).propose(put(99)).await;
    assert!(
        matches!(refused, Err(ProposeError::NotLeader(Some(leader))) if leader == id(1)),
        "{refused:?}"
    );
    stores.end().await;
}

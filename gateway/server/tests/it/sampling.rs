//! Whose temperature an answer is sampled with: the client's, the card's or the router's class.

use crate::echo::{Echo, Mode};
use crate::world::{World, plan, pool, prefers};
use serde_json::{Value, json};
use weir_gateway::ask::{Ask, Caller};

const PRECISE: usize = 0;
const BALANCED: usize = 1;

/// What the engine was sent for a class, a temperature of the card and one of the client.
async fn sent(class: usize, card: Option<f32>, client: Option<f32>) -> Value {
    let echo = Echo::start(Mode::Echo).await;
    let mut small = pool("small", &[&echo]);
    small.sampling.temperature = card;
    let world = World::start(plan(vec![small]), prefers(0, 1)).await;
    let mut ask = Ask::question("hi", Caller::default());
    ask.client.temperature = client;
    let prepared = world.gateway.prepare(&ask).await.unwrap();
    world
        .gateway
        .attempt(&prepared, 0, class, None)
        .await
        .unwrap();
    echo.bodies().pop().unwrap()
}

#[tokio::test]
async fn a_class_that_samples_takes_the_cards_temperature_and_a_greedy_one_stays_greedy() {
    for (class, card, client, temperature) in [
        (BALANCED, None, None, 0.3_f32),
        (BALANCED, Some(0.75), None, 0.75),
        (BALANCED, Some(0.75), Some(0.5), 0.5),
        (PRECISE, Some(0.75), None, 0.0),
        (PRECISE, Some(0.75), Some(0.5), 0.5),
    ] {
        let body = sent(class, card, client).await;
        assert_eq!(
            body["temperature"],
            json!(temperature),
            "class {class}, card {card:?}, client {client:?}"
        );
    }
}

//! What attention found, as a drawing: the question in the middle, a ring for each hop, nodes as large as their attention.
//!
//! Pure: a picture in, SVG out. A node stands outwards of the one that led to it; other edges are dashed. Colours are of
//! middle lightness and the text follows the reader's scheme, so that it is legible on light and dark grounds.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::fmt::Write;
use weir_local::{Found, Joined, Picture};

/// Between two rings.
const RING: f64 = 150.0;

/// Least distance of two nodes on a ring.
const GAP: f64 = 46.0;

/// Radius of the node with most attention, and of one with none.
const RADII: (f64, f64) = (24.0, 5.0);

/// Room around the outermost ring, for names.
const MARGIN: f64 = 170.0;

/// Height of a line of the legend.
const LINE: f64 = 20.0;

/// Longest name beside a node, in characters.
const NAME_CHARS: usize = 28;

/// Relations in the order of their names take these; more of them share the last.
const COLOURS: [&str; 8] = [
    "#0091d5", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#7f6df2", "#6c8e23", "#888888",
];

const STYLE: &str = "svg{--ink:#1f2328;--paper:#ffffff;--node:#8fb4d9;color-scheme:light dark}\
    @media(prefers-color-scheme:dark){svg{--ink:#e6edf3;--paper:#0d1117;--node:#3d6a94}}\
    text{fill:var(--ink);font:11px system-ui,sans-serif}\
    .ground{fill:var(--paper)}.node{fill:var(--node);stroke:var(--ink)}.way{stroke-dasharray:none}\
    .edge{stroke-dasharray:4 4;stroke-opacity:.55}.seed{stroke:var(--ink);stroke-opacity:.3}\
    .weight{font-size:9px}.question{font-weight:600}";

/// Where a node stands.
#[derive(Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    radius: f64,
}

/// The drawing of what a question found.
pub(crate) fn draw(question: &str, picture: &Picture) -> String {
    let places = places(picture);
    let colours = colours(&picture.edges);
    let reach = places
        .iter()
        .map(|place| place.x.hypot(place.y))
        .fold(RING, f64::max)
        + MARGIN;
    let legend = LINE * (colours.len() as f64 + 4.0);
    let (width, height) = (reach * 2.0, reach * 2.0 + legend);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{:.0} {:.0} {width:.0} {height:.0}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" x=\"{:.0}\" y=\"{:.0}\" width=\"{width:.0}\" height=\"{height:.0}\"/>\n",
        -reach,
        -reach,
        escaped(question),
        -reach,
        -reach,
    );
    for (node, place) in picture.nodes.iter().zip(&places) {
        if node.depth == 0 {
            line(&mut svg, "seed", "", (0.0, 0.0, place.x, place.y), 1.0);
            svg.push_str("</line>\n");
        }
    }
    for edge in &picture.edges {
        draw_edge(&mut svg, edge, picture, &places, &colours);
    }
    let name = escaped(&shortened(question, NAME_CHARS * 2));
    put(
        &mut svg,
        format_args!(
            "<circle class=\"node\" r=\"4\"/>\n<text class=\"question\" y=\"-10\" text-anchor=\"middle\">{name}</text>\n"
        ),
    );
    for (node, place) in picture.nodes.iter().zip(&places) {
        draw_node(&mut svg, node, *place);
    }
    draw_legend(&mut svg, &colours, (-reach + 16.0, reach));
    svg.push_str("</svg>\n");
    svg
}

/// Each node on the ring of its hops, within the angle of the one that led to it.
fn places(picture: &Picture) -> Vec<Place> {
    let parents = parents(picture);
    let mut leaves = vec![0.0; parents.len()];
    let mut by_depth: Vec<usize> = (0..parents.len()).collect();
    by_depth.sort_by_key(|at| picture.nodes[*at].depth);
    for at in by_depth.iter().rev() {
        leaves[*at] = f64::max(leaves[*at], 1.0);
        if let Some(parent) = parents[*at] {
            leaves[parent] += leaves[*at];
        }
    }
    let roots: f64 = (0..parents.len())
        .filter(|at| parents[*at].is_none())
        .map(|at| leaves[at])
        .sum();
    // All leaves may stand on the innermost ring, which must have room for them.
    let ring = RING.max(roots * GAP / TAU);
    let most = picture
        .nodes
        .iter()
        .map(|node| node.score)
        .fold(f32::MIN_POSITIVE, f32::max);
    // Where the next child of each node begins, and for the question at the end of the list, where its next seed does.
    let mut next = vec![0.0; parents.len() + 1];
    let mut places = vec![
        Place {
            x: 0.0,
            y: 0.0,
            radius: 0.0
        };
        parents.len()
    ];
    for at in by_depth {
        let turn = TAU / roots.max(1.0);
        let begin = &mut next[parents[at].unwrap_or(parents.len())];
        let (from, width) = (*begin, leaves[at] * turn);
        *begin += width;
        next[at] = from;
        let node = &picture.nodes[at];
        let (angle, distance) = (from + width / 2.0, ring + RING * f64::from(node.depth));
        let share = f64::from(node.score / most).max(0.0).sqrt();
        places[at] = Place {
            x: angle.cos() * distance,
            y: angle.sin() * distance,
            radius: RADII.1 + (RADII.0 - RADII.1) * share,
        };
    }
    places
}

/// Of each node, the one that led to it.
fn parents(picture: &Picture) -> Vec<Option<usize>> {
    let nodes = &picture.nodes;
    let at = |id: &str| nodes.iter().position(|node| node.id == id);
    let mut parents = vec![None; nodes.len()];
    for edge in picture.edges.iter().filter(|edge| edge.led) {
        let (Some(src), Some(dst)) = (at(&edge.src), at(&edge.dst)) else {
            continue;
        };
        let (outer, inner) = match nodes[src].depth > nodes[dst].depth {
            true => (src, dst),
            false => (dst, src),
        };
        if nodes[outer].depth > nodes[inner].depth {
            parents[outer] = Some(inner);
        }
    }
    parents
}

fn colours(edges: &[Joined]) -> BTreeMap<&str, &'static str> {
    let mut colours: BTreeMap<&str, &'static str> = edges
        .iter()
        .map(|edge| (edge.rel.as_str(), COLOURS[0]))
        .collect();
    for (at, colour) in colours.values_mut().enumerate() {
        *colour = COLOURS[at.min(COLOURS.len() - 1)];
    }
    colours
}

fn draw_edge(
    svg: &mut String,
    edge: &Joined,
    picture: &Picture,
    places: &[Place],
    colours: &BTreeMap<&str, &'static str>,
) {
    let at = |id: &str| picture.nodes.iter().position(|node| node.id == id);
    let (Some(from), Some(to)) = (at(&edge.src), at(&edge.dst)) else {
        return;
    };
    let (from, to) = (places[from], places[to]);
    let colour = colours[edge.rel.as_str()];
    let class = if edge.led { "way" } else { "edge" };
    let thickness = 1.0 + 2.0 * f64::from(edge.weight.clamp(0.0, 1.0));
    line(svg, class, colour, (from.x, from.y, to.x, to.y), thickness);
    let (rel, weight) = (escaped(&edge.rel), edge.weight);
    let (x, y) = (f64::midpoint(from.x, to.x), f64::midpoint(from.y, to.y));
    put(
        svg,
        format_args!(
            "<title>{rel} {weight:.3}</title></line>\n<text class=\"weight\" x=\"{x:.1}\" y=\"{y:.1}\">{weight:.2}</text>\n"
        ),
    );
}

fn draw_node(svg: &mut String, node: &Found, place: Place) {
    let Place { x, y, radius } = place;
    let named = node.title.as_deref().filter(|title| !title.is_empty());
    let name = escaped(&shortened(named.unwrap_or(&node.text), NAME_CHARS));
    let (text, id) = (escaped(&node.text), escaped(&node.id));
    let (anchor, beside) = match x < 0.0 {
        true => ("end", x - radius - 5.0),
        false => ("start", x + radius + 5.0),
    };
    let below = y + 4.0;
    put(
        svg,
        format_args!(
            "<g><title>{id}\nattention {:.3}, {} hops\n{text}</title>\
         <circle class=\"node\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>\
         <text x=\"{beside:.1}\" y=\"{below:.1}\" text-anchor=\"{anchor}\">{name}</text></g>\n",
            node.score, node.depth
        ),
    );
}

fn draw_legend(svg: &mut String, colours: &BTreeMap<&str, &'static str>, (x, top): (f64, f64)) {
    let mut y = top;
    let mut entry = |class: &str, colour: &str, words: &str| {
        line(svg, class, colour, (x, y - 4.0, x + 30.0, y - 4.0), 3.0);
        let words = escaped(words);
        put(
            svg,
            format_args!(
                "</line>\n<text x=\"{:.0}\" y=\"{y:.0}\">{words}</text>\n",
                x + 38.0
            ),
        );
        y += LINE;
    };
    for (rel, colour) in colours {
        entry("way", colour, rel);
    }
    entry(
        "way",
        COLOURS[7],
        "an edge by which a node was reached; numbers are weights",
    );
    entry(
        "edge",
        COLOURS[7],
        "another edge between nodes that are shown",
    );
    entry(
        "seed",
        "",
        "the search found it by words or vector; a larger node has more attention",
    );
}

/// The beginning of a line: whoever calls ends it.
fn line(svg: &mut String, class: &str, colour: &str, ends: (f64, f64, f64, f64), width: f64) {
    let (from_x, from_y, to_x, to_y) = ends;
    let stroke = match colour {
        "" => String::new(),
        colour => format!(" stroke=\"{colour}\""),
    };
    put(
        svg,
        format_args!(
            "<line class=\"{class}\"{stroke} x1=\"{from_x:.1}\" y1=\"{from_y:.1}\" x2=\"{to_x:.1}\" y2=\"{to_y:.1}\" \
         stroke-width=\"{width:.1}\">"
        ),
    );
}

fn put(svg: &mut String, words: std::fmt::Arguments<'_>) {
    svg.write_fmt(words).expect("a string takes everything");
}

fn shortened(text: &str, chars: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A text inside SVG. XML has no way to write most control characters: they are left out.
pub(crate) fn escaped(text: &str) -> String {
    let is_writable = |letter: &char| match letter {
        '\n' | '\t' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        letter => !letter.is_control(),
    };
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars().filter(is_writable) {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, score: f32, depth: u8) -> Found {
        Found {
            id: id.to_owned(),
            title: Some(format!("<{id}> & \u{1}co")),
            uri: None,
            text: "the heron fishes".to_owned(),
            score,
            cosine: None,
            vector_rank: None,
            depth,
            way: Vec::new(),
        }
    }

    fn edge(src: &str, dst: &str, rel: &str, led: bool) -> Joined {
        Joined {
            src: src.to_owned(),
            dst: dst.to_owned(),
            rel: rel.to_owned(),
            weight: 0.5,
            led,
        }
    }

    fn picture() -> Picture {
        Picture {
            nodes: vec![
                node("a", 0.6, 0),
                node("b", 0.3, 1),
                node("c", 0.1, 2),
                node("d", 0.0, 0),
            ],
            listed: 4,
            edges: vec![
                edge("a", "b", "cites", true),
                edge("c", "b", "near", true),
                edge("d", "c", "cites", false),
            ],
        }
    }

    #[test]
    fn a_node_stands_outwards_of_the_one_that_led_to_it_and_is_as_large_as_its_attention() {
        let places = places(&picture());
        let distances: Vec<f64> = places.iter().map(|place| place.x.hypot(place.y)).collect();
        assert!(
            distances[0] < distances[1] && distances[1] < distances[2],
            "{distances:?}"
        );
        assert!((distances[0] - distances[3]).abs() < 1e-9);
        let angle = |at: usize| places[at].y.atan2(places[at].x);
        assert!((angle(1) - angle(2)).abs() < 1e-9, "one way outwards");
        let radii: Vec<f64> = places.iter().map(|place| place.radius).collect();
        assert!((radii[0] - RADII.0).abs() < 1e-9 && (radii[3] - RADII.1).abs() < 1e-9);
        assert!(radii[1] > radii[2], "{radii:?}");
    }

    #[test]
    fn relations_have_colours_ways_are_solid_and_text_cannot_break_out() {
        let svg = draw("who </title><script>fishes?", &picture());
        assert_eq!(
            svg.matches("class=\"way\" stroke=\"#0091d5\"").count(),
            2,
            "cites: one edge, one entry"
        );
        assert_eq!(svg.matches("class=\"edge\" stroke=\"#0091d5\"").count(), 1);
        assert_eq!(svg.matches("class=\"way\" stroke=\"#d55e00\"").count(), 2);
        assert!(
            svg.contains("&lt;a&gt; &amp; co") && !svg.contains("<script>"),
            "{svg}"
        );
        assert!(svg.contains("prefers-color-scheme:dark"));
        assert!(svg.contains("<title>cites 0.500</title>"));
        for tag in ["line", "text", "title", "g", "svg"] {
            let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
            let opened =
                svg.matches(&format!("{open} ")).count() + svg.matches(&format!("{open}>")).count();
            assert_eq!(opened, svg.matches(&close).count(), "{tag}");
        }
    }

    #[test]
    fn many_seeds_have_room_and_an_empty_picture_is_a_drawing_too() {
        let nodes: Vec<Found> = (0..40).map(|at| node(&at.to_string(), 0.025, 0)).collect();
        let crowd = Picture {
            nodes,
            ..Picture::default()
        };
        let places = places(&crowd);
        for (at, one) in places.iter().enumerate() {
            for other in &places[at + 1..] {
                assert!((one.x - other.x).hypot(one.y - other.y) > 40.0);
            }
        }
        assert!(draw("nothing", &Picture::default()).ends_with("</svg>\n"));
    }
}

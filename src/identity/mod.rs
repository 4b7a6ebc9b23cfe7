//! Who a node is and who is let in: keys, certificates, roots, join tokens.

"""What the benchmarks share: real data, the nets, and the record that each writes."""

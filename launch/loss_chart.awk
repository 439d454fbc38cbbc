# Draws metrics.jsonl's loss over the steps: each column is the mean of its steps, the axes carry the figures.
# Works in mawk, which Debian installs, and gawk.
BEGIN { width = 64; height = 12 }

match($0, /"step": *[0-9]+/) {
  step = substr($0, RSTART, RLENGTH)
  sub(/.*: */, "", step)
  if (!match($0, /"loss": *[-+0-9.eE]+/)) next
  loss = substr($0, RSTART, RLENGTH)
  sub(/.*: */, "", loss)
  if (n == 0) first = step
  steps[n] = step + 0
  losses[n++] = loss + 0
  last = step
}

END {
  if (n == 0) { print "  (no steps yet)"; exit }
  span = last - first + 1
  for (i = 0; i < n; i++) {
    column = int((steps[i] - first) * width / span)
    sum[column] += losses[i]
    count[column]++
  }
  high = -1e30; low = 1e30
  for (c = 0; c < width; c++) if (count[c]) {
    mean[c] = sum[c] / count[c]
    if (mean[c] > high) high = mean[c]
    if (mean[c] < low) low = mean[c]
  }
  if (high == low) high = low + 1
  for (r = height - 1; r >= 0; r--) {
    row = ""
    for (c = 0; c < width; c++) {
      level = count[c] ? int((mean[c] - low) / (high - low) * (height - 1) + 0.5) : -1
      row = row (level == r ? "•" : " ")
    }
    label = r == height - 1 || r == 0 || r == int(height / 2) ? sprintf("%6.2f", low + (high - low) * r / (height - 1)) : ""
    printf "  %6s ┤%s\n", label, row
  }
  axis = ""
  for (c = 0; c < width; c++) axis = axis "─"
  printf "         └%s\n          %-*s%s\n", axis, width - length(last ""), first, last
}

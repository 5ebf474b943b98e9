# Reference values of test_ordinal.py: Rscript clmm.R, with r-cran-ordinal of Debian 12 (2022.11.16).
library(ordinal)
options(digits = 12)
show <- function(fit) {
  cat("log likelihood", logLik(fit), "\n")
  print(coef(fit))
  print(sapply(VarCorr(fit), function(term) term[1]))
  print(sqrt(diag(vcov(fit))))
}
ratings <- read.csv("ratings.csv")
ratings$y <- ordered(ratings$score)
ratings$reader <- factor(ratings$reader)
ratings$source <- relevel(factor(ratings$source), "real")
ratings$cell <- interaction(ratings$reader, ratings$source, drop = TRUE)
ratings$trial <- (ratings$trial - mean(ratings$trial)) / 10
show(clmm(y ~ source + (1 | reader) + (1 | cell), data = ratings))
show(clmm(y ~ source + trial + (1 | reader) + (1 | cell), data = ratings))
show(clmm(rating ~ temp + contact + (1 | judge), data = wine))
show(clmm(rating ~ temp + contact + (1 | judge) + (1 | bottle), data = wine))
cat(as.integer(wine$rating), sep = ", ")
# The ratings are simulated: 17 readers, four sources, ten images each.

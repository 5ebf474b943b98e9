# Reference values of test_multireader.py: the functions of iMRMC 2.1.2 on the example that the
# package ships (dfMRMC_example, simulated, CC0), here rounded to four decimals, and on a part of it
# in which readers rate different cases. Rscript imrmc.R FOLDER_OF_ITS_R_FILES
for (file in list.files(commandArgs(trailingOnly = TRUE)[1], full.names = TRUE)) source(file)
options(digits = 14)
example <- read.csv("imrmc_example.csv")
names(example) <- c("readerID", "caseID", "modalityID", "score")
print(doIMRMC(example)$Ustat)
row <- seq_len(nrow(example))
part <- example[example$readerID == "truth" | row %% 3 > 0 | row %% 7 == 0, ]
print(doIMRMC(part)$Ustat)

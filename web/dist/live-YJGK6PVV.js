import{b as a,c as b}from"./chunk-4FLDNJSA.js";import"./chunk-CSHTDOGG.js";import"./chunk-C4U6NZLZ.js";import"./chunk-EQ5S2O7V.js";import"./chunk-HR7TGT6X.js";export{b as page,a as worklet};

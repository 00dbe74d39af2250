import{b as a,c as b}from"./chunk-6NCWFU5Y.js";import"./chunk-CSHTDOGG.js";import"./chunk-ZXNYK4OJ.js";import"./chunk-KU3Z2KAP.js";import"./chunk-HR7TGT6X.js";export{b as page,a as worklet};
